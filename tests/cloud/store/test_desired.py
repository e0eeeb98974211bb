from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.profile.score import Scored
from culling.cloud.store.desired import DesiredState, DesiredStates, Paced, Profiled
from culling.cloud.store.index import wishes
from culling.common.wire.messages import Desired
from culling.common.wire.profile import Profile
from support.cloud import CAMERA, CloudState, camera_state


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def test_what_is_not_named_stays_as_it_was(cloud: CloudState) -> None:
    states = DesiredStates(cloud.index)
    assert states.all() == {}
    states.change(CAMERA, paused=True)
    states.change(CAMERA, frames_per_window=12)
    states.change("yard", held=True)
    assert states.all() == {CAMERA: DesiredState(paused=True, frames_per_window=12), "yard": DesiredState(held=True)}


def test_a_frame_is_wanted_until_the_edge_says_that_it_took_it(cloud: CloudState) -> None:
    states = DesiredStates(cloud.index)
    states.change(CAMERA, frame=4)
    asked = states.all()[CAMERA]
    assert asked.message(camera_state()) == Desired(CAMERA, False, None, 4)
    assert not asked.done_by(camera_state())
    assert asked.done_by(camera_state(frame=4))
    states.frame_taken(CAMERA, 5)
    assert states.all()[CAMERA].frame == 4
    states.frame_taken(CAMERA, 4)
    assert states.all()[CAMERA] == DesiredState()


@pytest.mark.parametrize(
    ("wanted", "state"),
    [
        (DesiredState(paused=True), {"paused": False}),
        (DesiredState(frames_per_window=3), {}),
        (DesiredState(), {"frames_per_window": 3}),
    ],
)
def test_an_edge_that_does_otherwise_is_not_done(wanted: DesiredState, state: dict[str, Any]) -> None:
    assert not wanted.done_by(camera_state(**state))


def test_a_pace_is_told_only_to_an_edge_that_knows_one(cloud: CloudState) -> None:
    wanted = DesiredState(paced=Paced(0.5))
    assert wanted.message(camera_state()) == Desired(CAMERA, False, None, None)
    assert wanted.done_by(camera_state()), "what it cannot do is not asked of it again and again"
    assert wanted.message(camera_state(pace=1.0)) == Desired(CAMERA, False, None, None, 0.5)
    assert not wanted.done_by(camera_state(pace=1.0))
    assert wanted.done_by(camera_state(pace=0.5))
    assert not DesiredState().done_by(camera_state(pace=0.5))


def test_a_pace_that_another_version_kept_counts_as_none(cloud: CloudState) -> None:
    cloud.enroll()
    states = DesiredStates(cloud.index)
    states.take_pace(CAMERA, Paced(0.5, 1.0, "right", 2.0, 3.0), 4.0)
    assert states.all()[CAMERA] == DesiredState(paced=Paced(0.5, 1.0, "right", 2.0, 3.0))
    with cloud.index.write() as connection:
        connection.execute(wishes.update().values(paced="[]"))
    assert states.all()[CAMERA] == DesiredState()


def test_a_profile_is_told_only_to_an_edge_that_follows_one(cloud: CloudState) -> None:
    slow = Profile(4.0, 8, echo=True)
    wanted = DesiredState(profiled=Profiled(now=Scored(slow)))
    assert wanted.message(camera_state()) == Desired(CAMERA, False, None, None)
    assert wanted.done_by(camera_state()), "what it cannot do is not asked of it again and again"
    assert wanted.message(camera_state(profile=Profile())) == Desired(CAMERA, False, None, None, profile=slow)
    assert not wanted.done_by(camera_state(profile=Profile()))
    assert wanted.done_by(camera_state(profile=slow))
    assert not DesiredState().done_by(camera_state(profile=slow)), "one that nobody wants any more is taken back"
