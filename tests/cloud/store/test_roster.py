from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.roster import AHEAD_S, SILENT_S, Words, add_edge
from culling.common.errors import SettingsError
from culling.common.wire.transport import public_key
from support.clock import FakeClock
from support.cloud import CloudState, camera_state


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def add(cloud: CloudState, edge: str, key: str, *cameras: str, replace: bool = False) -> None:
    with cloud.index.write() as connection:
        add_edge(connection, edge, key, cameras, 2.0 if replace else 1.0, replace)


def test_an_enrolled_edge_owns_its_cameras_and_no_others(cloud: CloudState) -> None:
    mine, theirs = public_key(cloud.enroll("gate", "yard")), public_key(cloud.enroll("dock", edge="edge-2"))
    members = cloud.roster.members()
    assert members.owns(mine, "gate")
    assert members.owns(mine, "yard")
    assert not members.owns(mine, "dock")
    assert members.owns(theirs, "dock")
    assert not members.owns("x" * 40, "gate")


def test_cameras_are_read_by_name_some_at_a_time(cloud: CloudState) -> None:
    cloud.enroll("gate", "yard")
    cloud.enroll("dock", edge="edge-2")
    assert [row.name for row in cloud.roster.rows()] == ["dock", "gate", "yard"]
    assert [row.name for row in cloud.roster.rows("", 2)] == ["dock", "gate"]
    assert [row.name for row in cloud.roster.rows("gate", 2)] == ["yard"]
    assert cloud.roster.rows("yard", 2) == []


def test_only_enrolled_edges_may_connect(cloud: CloudState) -> None:
    key = public_key(cloud.enroll())
    assert cloud.roster.allowed(key)
    assert not cloud.roster.allowed("x" * 40)


def test_a_revoked_edge_owns_nothing_and_may_not_connect(cloud: CloudState) -> None:
    key = public_key(cloud.enroll())
    assert cloud.roster.revoke("edge-1")
    assert not cloud.roster.revoke("edge-9")
    assert not cloud.roster.allowed(key)
    assert not cloud.roster.members().owns(key, "gate")
    assert cloud.roster.rows()[0].revoked


def test_a_camera_belongs_to_one_edge(cloud: CloudState) -> None:
    add(cloud, "edge-1", "a" * 40, "gate")
    with pytest.raises(SettingsError, match="gate belongs to edge edge-1"):
        add(cloud, "edge-2", "b" * 40, "dock", "gate")
    assert [row.name for row in cloud.roster.rows()] == ["gate"]
    assert not cloud.roster.allowed("b" * 40)


def test_an_edge_is_enrolled_once_unless_replaced(cloud: CloudState) -> None:
    add(cloud, "edge-1", "a" * 40, "gate")
    with pytest.raises(SettingsError, match="already enrolled"):
        add(cloud, "edge-1", "b" * 40, "gate")
    add(cloud, "edge-1", "b" * 40, "gate", "yard", replace=True)
    assert not cloud.roster.allowed("a" * 40)
    assert cloud.roster.members().cameras == {"b" * 40: frozenset({"gate", "yard"})}
    assert {row.enrolled for row in cloud.roster.rows()} == {2.0}  # yard must not seem to have waited since 1


def test_the_latest_word_on_a_camera_is_kept(cloud: CloudState) -> None:
    cloud.enroll()
    row = cloud.roster.rows()[0]
    assert (row.state, row.heard) == (None, None)
    cloud.roster.heard({"gate": camera_state(seen=7)}, 10.0)
    cloud.roster.heard({"gate": camera_state(seen=8)}, 11.0)
    row = cloud.roster.rows()[0]
    assert row.state is not None
    assert (row.state.seen, row.heard) == (8, 11.0)


# Several services that hear


def words_of(cloud: CloudState) -> Words:
    return Words(cloud.index, cloud.clock)


def test_a_word_that_comes_late_does_not_take_the_place_of_a_newer_one(cloud: CloudState) -> None:
    cloud.enroll("gate", "yard")
    cloud.roster.heard({"gate": camera_state(seen=9)}, 20.0)
    cloud.roster.heard({"gate": camera_state(seen=8), "yard": camera_state("yard")}, {"gate": 19.0, "yard": 19.5})
    assert {row.name: row.heard for row in cloud.roster.rows()} == {"gate": 20.0, "yard": 19.5}
    assert cloud.roster.require("gate").state == camera_state(seen=9)


def test_a_time_that_lies_far_ahead_is_that_of_a_clock_that_was_wrong(cloud: CloudState) -> None:
    cloud.enroll("gate")
    cloud.roster.heard({"gate": camera_state(seen=8)}, 5000.0)
    cloud.roster.heard({"gate": camera_state(seen=9)}, 20.0)
    assert cloud.roster.require("gate").heard == 20.0


def test_words_are_read_once_a_second_and_only_those_that_are_newer(tmp_path: Path) -> None:
    clock = FakeClock()
    cloud = CloudState(tmp_path, clock)
    cloud.enroll("gate", "yard")
    cloud.roster.heard({"gate": camera_state(seen=1), "yard": camera_state("yard")}, 100.0)
    words = words_of(cloud)
    first = words.now()["yard"]
    cloud.roster.heard({"gate": camera_state(seen=2)}, 99.0 + AHEAD_S)
    assert words.now()["gate"] == (camera_state(seen=1), 100.0)
    clock.advance(1.0)
    assert words.news() == {"gate": (camera_state(seen=2), 99.0 + AHEAD_S)}
    assert words.latest["yard"] is first
    clock.advance(1.0)
    assert words.news() == {}
    cloud.close()


def test_a_word_of_a_service_whose_clock_is_a_little_behind_is_not_missed(tmp_path: Path) -> None:
    clock = FakeClock()
    cloud = CloudState(tmp_path, clock)
    cloud.enroll("gate", "yard")
    words = words_of(cloud)
    cloud.roster.heard({"gate": camera_state()}, 100.0)
    assert words.now().keys() == {"gate"}
    cloud.roster.heard({"yard": camera_state("yard")}, 101.0 - SILENT_S)
    clock.advance(1.0)
    assert words.news().keys() == {"yard"}
    cloud.close()
