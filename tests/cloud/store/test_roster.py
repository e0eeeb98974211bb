from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.roster import add_edge
from culling.common.errors import SettingsError
from culling.common.wire.transport import public_key
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
