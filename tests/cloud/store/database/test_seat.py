from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.store.database.errors import DeposedError
from culling.cloud.store.index import Index, edges
from culling.common.errors import StorageError
from support.waiting import wait_until

ROW = {"name": "edge", "public_key": "k" * 40, "revoked": False, "enrolled": 1.0}


def end_sessions(index: Index) -> None:
    """Have the server end every session but this one, as a restart does."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    with index.write() as connection:
        connection.exec_driver_sql(f"{others} WHERE datname = current_database() AND pid <> pg_backend_pid()")


def test_one_of_those_that_share_an_index_has_the_seat_until_it_leaves(index: Index, url: str) -> None:
    other = Index(url)
    first, second = index.seat(), other.seat()
    assert [first.take(), second.take(), first.take(), second.take()] == [True, False, True, False]
    first.leave()
    wait_until(second.take)  # the server ends the session a moment later
    assert not first.take()
    second.leave()
    other.close()


def test_who_lost_the_seat_is_told_at_the_next_turn_and_may_stand_again(index: Index) -> None:
    seat = index.seat()
    assert seat.take()
    end_sessions(index)
    with pytest.raises(StorageError):
        seat.take()
    assert seat.take()
    seat.leave()


def test_a_change_of_one_that_lost_the_seat_is_refused_before_it_knows(index: Index, url: str) -> None:
    other = Index(url)
    zombie, heir = index.seat(), other.seat()
    assert zombie.take()
    fenced = index.fenced(zombie)
    with fenced.write() as connection:
        connection.execute(edges.insert().values(**ROW))
    end_sessions(index)
    assert heir.take()
    with pytest.raises(DeposedError), fenced.write() as connection:
        connection.execute(edges.delete())
    with other.fenced(heir).write() as connection:
        assert connection.execute(sa.select(edges.c.name)).scalars().all() == ["edge"]
    with index.write(), other.read():
        """Whoever needs no seat goes on."""
    heir.leave()
    zombie.leave()
    other.close()


def test_who_never_stood_may_change_nothing(index: Index) -> None:
    with pytest.raises(DeposedError), index.fenced(index.seat()).write():
        pass


def test_a_file_has_one_service_and_that_has_the_seat(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path}/index.sqlite")
    seat = index.seat()
    assert seat.take()
    with index.fenced(seat).write() as connection:
        connection.execute(edges.insert().values(**ROW))
    seat.leave()
    index.close()
