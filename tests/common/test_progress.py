from __future__ import annotations

import pytest

from culling.common.progress import EVERY_S, _plain, shown
from support.clock import FakeClock


def test_without_a_terminal_a_short_run_prints_its_end_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("student", "step", 405) as show:
        for done in range(1, 406):
            show(done, f", loss {done / 1000:.3f}")
    assert capsys.readouterr().err.splitlines() == ["student: step 405/405, loss 0.405"]


def test_a_long_one_is_told_of_now_and_then_with_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    show = _plain("labels", "frame", 1000, clock.monotonic)
    for done in range(101, 201):  # it was resumed after 100
        clock.advance(EVERY_S / 40)
        show(done, "")
    assert capsys.readouterr().err.splitlines() == [
        "labels: frame 140/1000, about 11 min left",
        "labels: frame 180/1000, about 10 min left",
    ]
