from __future__ import annotations

import pytest

from culling.common.progress import shown


def test_without_a_terminal_a_run_prints_few_lines_and_always_its_last(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("student", "step", 405) as show:
        for done in range(1, 406):
            show(done, f", loss {done / 1000:.3f}")
    lines = capsys.readouterr().err.splitlines()
    assert 20 <= len(lines) <= 22
    assert lines[0].startswith("student: step 20/405, loss 0.020, about ")
    assert lines[-1].startswith("student: step 405/405, loss 0.405, about 0 min left")


def test_a_run_that_goes_by_many_at_a_time_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("labels", "frame", 100) as show:
        for done in (8, 16, 100):
            show(done, "")
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "labels: frame 8/100",
        "labels: frame 16/100",
        "labels: frame 100/100",
    ]
