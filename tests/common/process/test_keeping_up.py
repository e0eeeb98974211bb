from __future__ import annotations

from typing import Any

import pytest

from culling.common.process.keeping_up import KeepingUp, Look, keeping_up, look_at
from culling.common.wire.messages import CameraState


def state(**changes: Any) -> CameraState:
    counts: dict[str, Any] = {"seen": 0, "inferred": 0, "forwarded": {}, "spooled": 0, "acked": 0, "evicted": 0}
    rest: dict[str, Any] = {"dropped": {}, "threshold": 0.0, "loss_mean": 0.0}
    return CameraState(camera="gate", state="live", model_id="gate-1", **{**counts, **rest, **changes})


def test_a_student_that_is_too_slow_is_told_by_what_came_and_what_it_took() -> None:
    before = look_at(state(seen=100, inferred=10, dropped={"newer": 90}), 0.0)
    after = look_at(state(seen=300, inferred=20, dropped={"newer": 280}), 20.0)

    found = keeping_up(before, after)

    assert str(found) == "keeping up: 0.5 of 10 frames/s"
    assert found is not None
    assert not found.enough
    assert "max_fps to 0.5" in found.hint
    assert "student.int8" in found.hint


def test_frames_that_were_not_to_be_looked_at_are_nobodys_fault() -> None:
    dropped = {"max-fps": 200, "frozen": 50, "unchanged": 20, "thinned": 10}
    found = keeping_up(Look(0, 0, 0), look_at(state(seen=300, inferred=20, dropped=dropped), 10.0))

    assert found == KeepingUp(5.0, 5.0)
    assert found.enough
    assert found.hint == ""


@pytest.mark.parametrize(
    "after", [Look(0.0, 5, 5), Look(10.0, 0, 0), Look(10.0, -3, 0)], ids=["no time", "no frame", "started anew"]
)
def test_where_nothing_can_be_said_nothing_is(after: Look) -> None:
    assert keeping_up(Look(0.0, 0, 0), after) is None


@pytest.mark.parametrize(("taken", "enough"), [(8.0, True), (7.9, False), (0.0, False)])
def test_four_of_five_frames_are_enough(taken: float, enough: bool) -> None:
    assert KeepingUp(taken, 10.0).enough is enough


def test_a_very_slow_student_is_not_rounded_to_nothing() -> None:
    assert str(KeepingUp(0.04, 25.0)) == "keeping up: 0.04 of 25 frames/s"
