from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.common.wire.messages import Desired
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
    assert asked.message(CAMERA) == Desired(CAMERA, False, None, 4)
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
