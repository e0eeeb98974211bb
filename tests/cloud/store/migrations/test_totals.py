from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from culling.cloud.settings import sqlite_url
from culling.cloud.store.index import Index
from culling.cloud.store.index import frames as table
from culling.cloud.store.migrations import totals
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.databases import store_url
from support.stored import add, everything, label_all

STATES = ("stored", "expired", "corrupt")
CAMERAS = ("gate", "yard")
ROW = {"edge_key": "e" * 40, "boot": "b", "frame": 1, "pts": 0.0, "captured": 1.0, "received": 1.0, "reason": "hard"}
REST = {"loss": 1.0, "model_id": "m", "width": 64, "height": 48, "sha256": "0" * 64}
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "camera": st.sampled_from(CAMERAS),
        "state": st.sampled_from(STATES),
        "bytes": st.integers(0, 10**9),
        "round": st.none() | st.integers(1, 3),
        "held_out": st.booleans(),
        "guard": st.none() | st.booleans(),
        "reason": st.sampled_from(("hard", "audit")),
        "labels": st.none() | st.just(b"labels"),
    },
)
WHICH = st.sets(st.integers(0, 11))
OPERATIONS = st.lists(
    st.tuples(st.just("insert"), VALUES, st.just(set()))
    | st.tuples(st.just("update"), VALUES, WHICH)
    | st.tuples(st.just("delete"), st.just({}), WHICH),
    max_size=25,
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(store_url(tmp_path).get("url") or sqlite_url(tmp_path / "index.sqlite"))
    yield index
    index.close()


def carry_out(connection: sa.Connection, what: str, values: dict[str, Any], which: set[int], seq: int) -> None:
    named = table.c.seq.in_(which)
    if what == "insert":
        start = {"camera": "gate", "state": "stored", "bytes": 5, "held_out": False, "id": str(seq), "seq": seq}
        connection.execute(table.insert().values(**{**ROW, **REST, **start, **values}))
    elif what == "delete":
        connection.execute(table.delete().where(named))
    elif values:
        connection.execute(table.update().where(named).values(**values))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(OPERATIONS)
def test_totals_equal_a_full_count_whatever_is_done_to_the_frames(
    index: Index, operations: list[tuple[str, dict[str, Any], set[int]]]
) -> None:
    with index.write() as connection:
        connection.execute(table.delete())
        assert totals.kept(connection) == {}
        for seq, (what, values, which) in zip(itertools.count(), operations, strict=False):
            carry_out(connection, what, values, which, seq)
            assert totals.kept(connection) == totals.counted(connection)


def test_what_is_taken_back_is_not_counted(index: Index) -> None:
    with index.write() as connection:
        connection.execute(table.delete())
        before = totals.kept(connection)
        savepoint = connection.begin_nested()
        carry_out(connection, "insert", {}, set(), 99)
        assert totals.kept(connection) != before
        savepoint.rollback()
        assert totals.kept(connection) == before


def test_a_recount_puts_right_what_is_wrong(index: Index) -> None:
    with index.write() as connection:
        connection.execute(table.delete())
        carry_out(connection, "insert", {}, set(), 1)
        connection.exec_driver_sql("UPDATE totals SET bytes = 7")
        connection.exec_driver_sql("INSERT INTO totals VALUES ('ghost', 1, 1, 1, 1, 1, 1)")
        totals.recount(connection)
        assert totals.kept(connection) == totals.counted(connection) == {"gate": (1, 5, 0, 0, 0, 1)}


def test_the_whole_life_of_frames_is_counted(tmp_path: Path) -> None:
    clock = FakeClock()
    cloud = CloudState(tmp_path, clock)

    def agree() -> bool:
        with cloud.index.read() as connection:
            return totals.kept(connection) == totals.counted(connection)

    add(cloud, *range(1, 21))
    add(cloud, 21, 22, camera="yard")
    clock.advance(1)
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    label_all(cloud)
    assert agree()
    cloud.lifecycle.claim(CAMERA, turn.id)
    assert agree()
    cloud.lifecycle.keep([frame.id for frame in cloud.lifecycle.pool(CAMERA, 4)], turn.id)
    cloud.frames.put_aside(everything(cloud)[0])
    assert agree()
    cloud.rounds.end(turn.id, "refused", {}, "worse", clock.now())
    assert cloud.lifecycle.expire(1, 30)
    assert agree()
    cloud.lifecycle.unclaim("yard", turn.id)
    clock.advance(40 * 86_400)
    cloud.lifecycle.expire(1, 30)
    assert agree()
    assert cloud.frames.counts() == {}
    cloud.close()
