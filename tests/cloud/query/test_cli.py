"""`culling query` on a little clip: a yellow box moves from left to right, again and again; a teacher sees it whole, a
student only how bright the picture is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.common.cli import main
from culling.common.errors import CameraError, InputError, ModelError, SettingsError
from culling.common.frame import Detections
from culling.common.video import read_frames
from support import tiny
from support.clips import make_clip
from support.graphs import answering
from support.studied import yellow_box

FRAMES = 300

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)

LEFT = "0,0.5 0.5,0.5 0.5,0.8 0,0.8"
"""Where the box is in the first half of its way."""


SEER = ("--set", "teacher.kind=onnx", "--set", "teacher.file=seer.onnx")
"""A teacher that says COCO's names."""


class Seer:
    """Sees the yellow box, as a car; counts the pictures that it was shown."""

    names = ("car",)

    def __init__(self) -> None:
        self.shown = 0

    def saying(self, classes: tuple[str, ...]) -> Seer:
        assert classes == self.names
        return self

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.shown += len(frames)
        found = [yellow_box(frame) for frame in frames]
        return [Detections(one.boxes, one.scores, np.zeros(1, np.int64)) for one in found]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, a student, and an edge's settings."""
    folder = tmp_path_factory.mktemp("yard")
    make_clip(folder / "yard.mp4", frames=FRAMES)
    (folder / "student.onnx").write_bytes(tiny.student(classes=("car",)))
    (folder / "wide.onnx").write_bytes(tiny.student(classes=("car", "kiosk")))
    (folder / "seer.onnx").write_bytes(answering({"found": np.zeros((1, 300, 6), np.float32)}))
    corners = [[float(number) for number in corner.split(",")] for corner in LEFT.split()]
    (folder / "edge.toml").write_text(f'[[camera]]\nname = "yard"\n[[camera.zone]]\nname = "left"\npolygon = {corners}')
    return folder


@pytest.fixture
def seer(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Seer:
    """The teacher; the folder with the clip is worked in."""
    seer = Seer()
    monkeypatch.setattr("culling.cloud.query.ask.load_teachers", lambda settings: seer)
    monkeypatch.chdir(yard)
    return seer


def query(*more: str, text: str = "car >= 1", model: str = "student.onnx", error: str = "0.05") -> list[str]:
    return ["query", "yard.mp4", text, "--model", model, "--error", error, *more]


def box_is_left(yard: Path) -> list[bool]:
    boxes = (yellow_box(frame).boxes[0] for _, frame in read_frames(yard / "yard.mp4", range(FRAMES)))
    return [bool(box[0] + box[2] < 160) for box in boxes]


def said(told: dict[str, object]) -> list[bool]:
    found = [False] * FRAMES
    for one in told["intervals"]:  # type: ignore[attr-defined]
        found[one["first"] : one["last"] + 1] = [True] * (one["last"] - one["first"] + 1)
    return found


def test_a_zone_is_asked_within_the_bound_with_fewer_looks_than_frames(
    yard: Path, seer: Seer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(query("--zone", LEFT, "--json", "--sample", "180")) == 0
    told = json.loads(capsys.readouterr().out)
    pairs = list(zip(said(told), box_is_left(yard), strict=True))
    assert sum(yes and not true for yes, true in pairs) <= 0.05 * FRAMES
    assert sum(true and not yes for yes, true in pairs) <= 0.05 * FRAMES
    assert 0.3 * FRAMES < told["yes"] < 0.7 * FRAMES
    assert told["cascade"]["low"] <= told["cascade"]["high"]
    assert 180 <= told["stages"]["teacher"]["frames"] < FRAMES


def test_an_answer_is_written_and_what_the_teacher_said_is_not_asked_again(
    seer: Seer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    zone = ("--zone", "left", "--edge", "edge.toml", "--out", str(out))
    assert main(query(*zone)) == 0
    told, shown = json.loads((out / "query.json").read_text()), seer.shown
    assert f"car >= 1 in yard.mp4: {told['yes']} of 300 frames" in capsys.readouterr().out
    assert (out / "query.png").read_bytes().startswith(b"\x89PNG")
    assert main(query(*zone)) == 0
    again = json.loads((out / "query.json").read_text())
    assert seer.shown == shown
    assert again["intervals"] == told["intervals"]


def test_a_run_that_was_ended_goes_on_from_what_the_teacher_said(seer: Seer, tmp_path: Path) -> None:
    class CutError(Exception):
        pass

    look = seer.label

    def cut(frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        if seer.shown >= 40:
            raise CutError
        return look(frames)

    seer.label = cut  # type: ignore[method-assign]
    with pytest.raises(CutError):
        main(query("--out", str(tmp_path)))
    seer.label, seer.shown = look, 0  # type: ignore[method-assign]
    assert main(query("--out", str(tmp_path))) == 0
    [kept] = (tmp_path / "cache").glob("teacher-*.jsonl")
    assert len(kept.read_text().splitlines()) == seer.shown + 40


def test_where_nothing_is_found_there_is_no_sheet(seer: Seer, tmp_path: Path) -> None:
    (tmp_path / "query.png").write_bytes(b"of an earlier query")
    assert main(query("--out", str(tmp_path), text="car > 8")) == 0
    assert json.loads((tmp_path / "query.json").read_text())["intervals"] == []
    assert not (tmp_path / "query.png").exists()


def test_only_the_first_frames_are_asked_if_wanted(seer: Seer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(query("--frames", "100", "--json", error="0.1")) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 100


def test_a_sample_of_more_than_the_video_is_all_of_it_and_nobody_else_looks(
    seer: Seer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(query("--sample", "100000", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["chosen_by"], told["certified_by"], told["cascade"]) == (100, 200, None)
    assert (told["stages"]["teacher"]["frames"], told["stages"]["student"]["frames"]) == (300, 0)
    assert seer.shown == FRAMES


def test_frames_that_cannot_be_decoded_are_told_and_those_that_a_file_only_announces(
    yard: Path, seer: Seer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.query.eyes.announced_frames", lambda video: 4000)
    assert main(query("--json")) == 0
    assert "yard.mp4: 300 of its 4000 frames can be decoded" in capsys.readouterr().err
    assert main(query("--json", "--frames", "100", error="0.1")) == 0
    assert "can be decoded" not in capsys.readouterr().err


def test_a_second_query_on_a_folder_says_that_it_waits(
    seer: Seer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "cache" / "query.lock"
    lock.parent.mkdir()
    lock.touch()
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"

    def freed(text: str) -> None:
        print(text, file=sys.stderr)
        if "waiting" in text:
            first.communicate(b"go\n")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("culling.cloud.query.cli.say", freed)
        assert main(query("--out", str(tmp_path), text="car > 8")) == 0
    assert f"another process works in {tmp_path / 'cache'}: waiting until it is done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (query(text="car => 3"), SettingsError.exit_code, 'query "car => 3", character 1'),
        (query(text="lorry > 3"), SettingsError.exit_code, "nobody knows a class lorry; known: car"),
        (query("--zone", "door", "--edge", "edge.toml"), SettingsError.exit_code, "it has yard/left"),
        (query("--zone", "left", "--edge", "none.toml"), InputError.exit_code, "none.toml: cannot be read"),
        (query("--edge", "edge.toml"), SettingsError.exit_code, "--edge edge.toml: say with --zone which of its zones"),
        (query("--frames", "30"), SettingsError.exit_code, "frames, and --frames leaves 30 that can be decoded"),
        (query(error="0.003"), SettingsError.exit_code, "that is less than one frame, and the video has 300"),
        (query("--seed", "-1"), SettingsError.exit_code, "--seed"),
        (query(error="nan"), SettingsError.exit_code, "--error"),
        (query("--sample", "20"), SettingsError.exit_code, "the teacher has to label"),
        (query(error="0.001"), SettingsError.exit_code, "--error 0.001"),
        (query(error="0.7"), SettingsError.exit_code, "--error"),
        (query(model="none.onnx"), ModelError.exit_code, "none.onnx: cannot be read"),
        (query(model="edge.toml"), ModelError.exit_code, "edge.toml: the model is not ONNX"),
        (["query", "none.mp4", "car > 1", "--model", "student.onnx"], CameraError.exit_code, "none.mp4"),
        (["query", "edge.toml", "car > 1", "--model", "student.onnx"], CameraError.exit_code, "edge.toml"),
        (query(*SEER, text="kiosk > 0", model="wide.onnx"), ModelError.exit_code, "the teacher has no name for kiosk"),
        (query("--set", "teacher.kind=oracle"), SettingsError.exit_code, "teacher.kind"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_a_code(
    yard: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(yard)
    assert main(arguments) == code
    error = capsys.readouterr().err.replace("reading yard.mp4\n", "")
    assert told in error
    assert sum(line.startswith("culling: ") for line in error.splitlines()) == 1
