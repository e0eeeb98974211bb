from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.store.desired import Wish, Wishes
from culling.common.wire.messages import Orders
from support.cloud import CAMERA, CloudState, camera_state


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def test_what_is_not_named_stays_as_it_was(cloud: CloudState) -> None:
    wishes = Wishes(cloud.index)
    assert wishes.all() == {}
    wishes.change(CAMERA, paused=True)
    wishes.change(CAMERA, frames_per_window=12)
    wishes.change("yard", held=True)
    assert wishes.all() == {CAMERA: Wish(paused=True, frames_per_window=12), "yard": Wish(held=True)}


def test_a_frame_is_wanted_until_the_edge_says_that_it_took_it(cloud: CloudState) -> None:
    wishes = Wishes(cloud.index)
    wishes.change(CAMERA, frame=4)
    asked = wishes.all()[CAMERA]
    assert asked.orders(CAMERA) == Orders(CAMERA, False, None, 4)
    assert not asked.done_by(camera_state())
    assert asked.done_by(camera_state(frame=4))
    wishes.frame_taken(CAMERA, 5)
    assert wishes.all()[CAMERA].frame == 4
    wishes.frame_taken(CAMERA, 4)
    assert wishes.all()[CAMERA] == Wish()


@pytest.mark.parametrize(
    ("wanted", "state"),
    [(Wish(paused=True), {"paused": False}), (Wish(frames_per_window=3), {}), (Wish(), {"frames_per_window": 3})],
)
def test_an_edge_that_does_otherwise_is_not_done(wanted: Wish, state: dict[str, Any]) -> None:
    assert not wanted.done_by(camera_state(**state))
