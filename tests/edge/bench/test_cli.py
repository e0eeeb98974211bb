from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main
from culling.common.errors import MissingExtraError
from culling.edge.bench import rig as trial
from culling.edge.bench.rig import bundled_student
from support import tiny
from support.clips import make_clip

KEYS = {"bench", "name", "ratio", "target", "met", "ours", "reference", "comparisons", "stated", "notes", "machine"}

Bench = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    make_clip(folder / "clip.mp4", frames=20)
    (folder / "student.onnx").write_bytes(tiny.student())
    return folder


@pytest.fixture
def bench(material: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    def run(*words: str) -> dict[str, Any]:
        files = ["--video", str(material / "clip.mp4"), "--model", str(material / "student.onnx")]
        assert main(["bench", *words, *files, "--rounds", "1", "--threads", "1", "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert told.keys() == KEYS
        assert told["machine"]["provider"] in ("cpu", "cuda")
        return told

    return run


def test_the_agent_is_held_against_a_bare_loop_and_several_cameras_against_one(bench: Bench) -> None:
    told = bench("edge", "--frames", "8", "--cameras", "1,2")
    assert [one["name"] for one in told["comparisons"]] == ["1 camera", "2 cameras"]
    one, two = told["comparisons"]
    assert one["ratio"]["median"] == pytest.approx(one["ours"]["median"] / one["reference"]["median"])
    assert two["reference"] == one["ours"]


def test_the_overhead_says_how_many_frames_went_to_the_spool(bench: Bench) -> None:
    told = bench("overhead", "--frames", "16")
    assert told["ours"]["unit"] == told["reference"]["unit"] == "ms a frame"
    assert 0 < told["stated"][0]["median"] <= 1


def test_swaps_are_counted_and_none_is_lost(bench: Bench) -> None:
    told = bench("swap", "--swaps", "2")
    assert {one["name"] for one in told["comparisons"]} == {"p99 latency", "memory"}
    lost = {one["what"]: one["median"] for one in told["stated"]}
    assert lost["swaps that did not go live"] == 0


def test_memory_is_stated_by_camera(bench: Bench) -> None:
    told = bench("memory", "edge", "--cameras", "2", "--frames", "2", "--fps", "50")
    assert [one["what"] for one in told["stated"]] == ["one camera", "each further camera"]
    assert told["stated"][0]["median"] > 10


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


def test_without_torch_the_bundled_student_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], MissingExtraError.exit_code, "", "culling: needs torch")
    monkeypatch.setattr(trial.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(MissingExtraError, match=r"--model FILE\.onnx"):
        bundled_student()
