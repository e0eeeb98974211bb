from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main

Bench = Callable[..., dict[str, Any]]


def test_the_agent_is_held_against_a_bare_loop_and_several_cameras_against_one(bench: Bench) -> None:
    told = bench("edge", "--frames", "8", "--cameras", "1,2")
    assert [one["name"] for one in told["comparisons"]] == ["1 camera", "2 cameras"]
    one, two = told["comparisons"]
    assert one["ratio"]["median"] == pytest.approx(one["ours"]["median"] / one["reference"]["median"])
    assert two["reference"] == one["ours"]


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (["--video", "none.mp4", "--model", "student.onnx"], 4, "none.mp4: cannot be read as a video"),
        (["--video", "clip.mp4", "--model", "none.onnx"], 3, "none.onnx: cannot be read"),
        (["--video", "clip.mp4", "--model", "clip.mp4"], 5, "not ONNX"),
        (["--cameras", "1,none"], 2, "--cameras 1,none: expected numbers"),
        (["--cameras", "0"], 2, "--cameras 0: expected numbers"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    flags: list[str], code: int, line: str, material: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(material)
    assert main(["bench", "edge", *flags]) == code
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
