"""What SQLite gives for nothing and PostgreSQL has to be asked for: one writer, one moment, whole numbers, and more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.index import Index, edges, history
from culling.common.errors import StorageError
from support.postgres import Postgres

ROW = {"name": "edge-1", "public_key": "k" * 40, "revoked": False, "enrolled": 1.0}
COUNTED = ("seen", "inferred", "dropped", "evicted", "acked", "hard", "audit", "bootstrap", "manual")


def names(index: Index) -> list[str]:
    with index.read() as connection:
        return list(connection.execute(sa.select(edges.c.name).order_by(edges.c.name)).scalars())


def test_one_that_reads_and_then_writes_keeps_the_others_waiting(url: str) -> None:
    def write(first: int) -> None:
        index = Index(url)  # as in another process
        for number in range(first, first + 10):
            with index.write() as connection:
                count = connection.execute(sa.select(sa.func.count()).select_from(edges)).scalar_one()
                connection.execute(edges.insert().values(**ROW | {"name": f"{count:02}", "public_key": f"{number}"}))
        index.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, (0, 100, 200)))
    index = Index(url)
    assert names(index) == [f"{number:02}" for number in range(30)]
    index.close()


def test_what_a_writer_reads_is_of_when_it_has_the_lock(index: Index, url: str) -> None:
    other, seen, begun = Index(url), [], threading.Event()

    def read_late() -> None:
        begun.set()
        with other.write() as connection:
            seen.extend(connection.execute(sa.select(edges.c.name)).scalars())

    reader = threading.Thread(target=read_late)
    with index.write() as connection:
        reader.start()
        begun.wait()
        connection.execute(edges.insert().values(**ROW))
    reader.join()
    assert seen == ["edge-1"]
    other.close()


def test_a_reader_sees_one_moment_and_waits_for_nobody(index: Index) -> None:
    with index.read() as connection:
        assert connection.execute(sa.select(edges.c.name)).all() == []
        with index.write() as writing:
            writing.execute(edges.insert().values(**ROW))
        assert connection.execute(sa.select(edges.c.name)).all() == []
    assert names(index) == ["edge-1"]


def test_whoever_only_reads_cannot_write(index: Index) -> None:
    with pytest.raises(StorageError, match="read-only"), index.read() as connection:
        connection.execute(edges.insert().values(**ROW))


def test_a_block_that_raises_changes_nothing_and_holds_nobody_up(index: Index) -> None:
    def enter_twice() -> None:
        with index.write() as connection:
            for _ in range(2):
                connection.execute(edges.insert().values(**ROW))

    with pytest.raises(IntegrityError):
        enter_twice()
    assert names(index) == []
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    assert names(index) == ["edge-1"]


def test_sums_of_whole_numbers_are_whole_and_means_are_not(index: Index) -> None:
    with index.write() as connection:
        for minute in (1, 2, 4):
            row = {"camera": "gate", "minute": minute, "threshold": 1.0, "loss_mean": 1.0}
            connection.execute(history.insert().values(**dict.fromkeys(COUNTED, 2), **row))
    told = sa.select(sa.func.sum(history.c.seen), sa.func.avg(history.c.minute), sa.func.sum(history.c.threshold))
    with index.read() as connection:
        total, mean, real = connection.execute(told).one()
    assert (total, type(total)) == (6, int)
    assert mean == pytest.approx(7 / 3)
    assert (type(mean), type(real)) == (float, float)


def test_an_empty_database_and_an_old_one_are_refused_until_they_are_migrated(postgres: Postgres) -> None:
    url = postgres.empty()
    with pytest.raises(StorageError, match="the database is empty: run `culling cloud migrate`"):
        Index(url)
    made = Index(url, migrating=True)
    assert "totals" in made.migrated
    with made.write() as connection:
        connection.exec_driver_sql("DELETE FROM migrations WHERE step = 'rates'")
    made.close()
    with pytest.raises(StorageError, match=r"lacks 1 steps .*, first 'rates': run `culling cloud migrate`"):
        Index(url)
    again = Index(url, migrating=True)
    assert again.migrated == ("rates",)
    again.close()
    postgres.drop(url)


def test_of_four_that_make_an_index_at_once_one_does(postgres: Postgres) -> None:
    url = postgres.empty()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Index(url, migrating=True), range(4)))
    assert sum(bool(index.migrated) for index in made) == 1
    for index in made:
        assert names(index) == []
        index.close()
    postgres.drop(url)


def test_a_password_is_in_no_error(postgres: Postgres) -> None:
    for url in (
        "postgresql://u:hunter2@127.0.0.1:1/culling",
        "postgresql+psycopg://u:hunter2@127.0.0.1:port/culling",
        "postgresql+asyncpg://u:hunter2@127.0.0.1/culling",
        "postgresql:/u:hunter2@127.0.0.1/culling",
        f"postgresql://u:hunter2@/no_such?host={postgres.folder}",
        "postgresql://u:hunter2@127.0.0.1:1/culling?colour=red",
    ):
        with pytest.raises(StorageError) as raised:
            Index(url)
        assert "hunter2" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_rows_that_were_deleted_leave_the_tables(index: Index) -> None:
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    with index.write() as connection:
        connection.execute(edges.delete())
    index.settle()
    with index.read() as connection:
        assert connection.exec_driver_sql("SELECT pg_relation_size('edges')").scalar() == 0


def test_connections_apart_are_not_taken_by_others(index: Index) -> None:
    apart = index.apart()
    held = [index.read() for _ in range(15)]
    for one in held:
        one.__enter__()
    assert names(apart) == []
    for one in held:
        one.__exit__(None, None, None)
    apart.close()


@pytest.mark.fault
def test_a_server_that_was_killed_and_came_back_is_used_again(postgres: Postgres, index: Index) -> None:
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    postgres.kill()
    with pytest.raises(StorageError, match="connection"):
        names(index)
    postgres.start()
    assert names(index) == ["edge-1"]
