from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.index import Index, edges, frames, models, stored_among
from culling.common.errors import StorageError

ROW = {"name": "edge-1", "public_key": "k" * 40, "revoked": False, "enrolled": 1.0}


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'index.sqlite'}"


def names(index: Index) -> list[str]:
    with index.read() as connection:
        return list(connection.execute(sa.select(edges.c.name).order_by(edges.c.name)).scalars())


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    index.close()
    again = Index(url(tmp_path))
    assert names(again) == ["edge-1"]
    again.close()


def test_every_commit_is_synced_to_disk(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    with index.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    index.close()


def test_a_file_of_version_0_1_gets_the_columns_that_came_since(tmp_path: Path) -> None:
    dump = (Path(__file__).parent / "migrations" / "index-0.2.0.sql").read_text()
    with sqlite3.connect(tmp_path / "index.sqlite") as before:
        before.executescript(dump)
        before.execute("ALTER TABLE frames DROP COLUMN features")
        before.execute("ALTER TABLE models DROP COLUMN ranker")
    before.close()
    for _ in range(2):
        index = Index(url(tmp_path))
        with index.read() as connection:
            assert set(connection.execute(sa.select(frames.c.features)).scalars()) == {None}
            assert set(connection.execute(sa.select(models.c.ranker)).scalars()) == {None}
        index.close()


def insert(index: Index, *rows: dict[str, object]) -> None:
    with index.write() as connection:
        for row in rows:
            connection.execute(edges.insert().values(**row))


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    with pytest.raises(sa.exc.IntegrityError):
        insert(index, ROW, ROW)
    assert names(index) == []
    index.close()


def test_a_second_row_of_one_name_is_left_to_the_caller(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    insert(index, ROW)
    with pytest.raises(IntegrityError):
        insert(index, ROW)
    assert names(index) == ["edge-1"]
    index.close()


def test_writers_in_threads_wait_for_each_other(tmp_path: Path) -> None:
    index = Index(url(tmp_path))

    def write(first: int) -> None:
        for number in range(first, first + 20):
            with index.write() as connection:
                count = connection.execute(sa.select(sa.func.count()).select_from(edges)).scalar()
                connection.execute(edges.insert().values(**ROW | {"name": f"edge-{number}", "public_key": str(number)}))
                assert connection.execute(sa.select(sa.func.count()).select_from(edges)).scalar() == (count or 0) + 1

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(index)) == 60
    index.close()


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
        assert names(index) == []
    assert names(index) == ["edge-1"]
    index.close()


def test_a_file_that_is_no_database_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(StorageError, match="not a database"):
        Index(url(tmp_path))


@pytest.mark.parametrize("bad", ["nonsense", "nosuchdb://host/name"])
def test_a_url_that_means_nothing_is_a_storage_error(bad: str) -> None:
    with pytest.raises(StorageError, match=r"store\.url"):
        Index(bad)


def test_the_driver_that_a_database_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"cannot be used without psycopg: pip install 'culling\[postgres\]'"):
        Index("postgresql+psycopg://host/name")


def test_a_full_disk_is_a_storage_error_and_passes(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    with index.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with index.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    big = ROW | {"name": "x" * 200_000}
    with pytest.raises(StorageError, match="full"), index.write() as connection:
        connection.execute(edges.insert().values(**big))
    with index.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    with index.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    assert names(index) == ["edge-1"]
    index.close()


def test_the_index_is_an_ordinary_sqlite_file(tmp_path: Path) -> None:
    Index(url(tmp_path)).close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"edges", "cameras", "frames", "models", "swaps", "rounds", "requests"} <= tables


@pytest.mark.embedded
def test_frames_are_found_by_their_names_without_a_walk_through_all_that_are_stored(tmp_path: Path) -> None:
    index = Index(url(tmp_path))
    some = [f"{number:032x}" for number in range(50)]
    for found in (stored_among(some), stored_among(some, "gate")):
        query = sa.select(frames.c.id).where(found).compile(compile_kwargs={"literal_binds": True})
        with index.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
        assert plan == ["SEARCH frames USING INDEX sqlite_autoindex_frames_1 (id=?)"]
    index.close()
