"""Which list a camera should have, by its set and by what an operator asked, and what a requested round waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.control.actions import carry_out
from culling.cloud.control.classes import missing, pending, wanted
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.desired import DesiredStates
from culling.common.errors import InputError, SettingsError
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections, hard_frame, held_out
from support.rounds import EDGE

SETS = {
    "shop": {"names": ["bottle", "person"], "cameras": ["shop-*"]},
    "yard": {"names": ["person", "car"], "cameras": ["yard"]},
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, classes=SETS, schedule={"first": 5})
    state.enroll(CAMERA, "shop-1")
    yield state
    state.close()


def choose(cloud: CloudState, name: str | None) -> str:
    cloud.requests.ask("classes", CAMERA, 1.0, {} if name is None else {"classes": name})
    return carry_out(cloud.requests.open()[-1], cloud.index, cloud.publisher)


def test_a_camera_gets_the_list_of_its_set(cloud: CloudState) -> None:
    assert pending(cloud.settings, cloud.index) == {"shop-1": ("bottle", "person")}
    relist(cloud.index, "shop-1", ("bottle", "person"), 1.0)
    assert pending(cloud.settings, cloud.index) == {}


def test_an_operator_chooses_a_set_and_goes_back(cloud: CloudState) -> None:
    assert "will look for the classes of the set yard" in choose(cloud, "yard")
    assert wanted(cloud.settings, cloud.index)[CAMERA] == ("yard", ("person", "car"))
    choose(cloud, None)
    assert wanted(cloud.settings, cloud.index)[CAMERA][0] == "default"


def test_a_pinned_camera_keeps_its_classes(cloud: CloudState) -> None:
    DesiredStates(cloud.index).change(CAMERA, pinned="gate-1")
    with pytest.raises(InputError, match="pinned to gate-1: unpin it first"):
        choose(cloud, "yard")


def test_a_camera_that_two_sets_hold_is_named_with_both_keys(cloud: CloudState) -> None:
    both = {**SETS, "all": {"names": ["cat"], "cameras": ["*-1"]}}
    settings = cloud.settings.model_validate({**cloud.sections, "classes": both})
    with pytest.raises(SettingsError, match=r"classes\.shop\.cameras and classes\.all\.cameras both hold"):
        pending(settings, cloud.index)


def test_a_round_that_was_asked_for_waits_for_a_pool_of_the_new_list(cloud: CloudState) -> None:
    assert missing(cloud.settings, cloud.index, {CAMERA}) == {}, "there was no other list"
    learnt = [seq for seq in range(1, 20) if not held_out(seq)][:7]
    for seq in learnt:
        cloud.frames.add(EDGE, *hard_frame(seq))
    relist(cloud.index, CAMERA, ("bottle",), 1.0)
    assert missing(cloud.settings, cloud.index, set()) == {}
    assert missing(cloud.settings, cloud.index, {CAMERA}) == {CAMERA: 5}
    cloud.lifecycle.label({frame_id(EDGE, "boot-1", seq): detections() for seq in learnt[:3]})
    assert missing(cloud.settings, cloud.index, {CAMERA}) == {CAMERA: 2}
    cloud.lifecycle.label({frame_id(EDGE, "boot-1", seq): detections() for seq in learnt[3:]})
    assert missing(cloud.settings, cloud.index, {CAMERA}) == {CAMERA: 0}
