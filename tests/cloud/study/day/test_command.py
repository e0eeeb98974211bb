from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from culling.cloud.study.day.cast import load_cast
from culling.cloud.study.day.check import clear_frames, real_frames
from culling.cloud.study.day.compose import Composer
from culling.cloud.weights.classes import CLASSES
from culling.common.cli import main
from culling.common.errors import CameraError, InputError, SettingsError
from culling.common.frame import Detections
from culling.common.video import count_frames


def asked(files: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    return ["study", "day", "--video", str(files[0]), "--labels", str(files[1]), "--out", str(out), *more]


def test_the_command_leaves_footage_that_says_what_it_is(
    street_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(asked(street_files, out, "--seed", "2", "--frames", "20")) == 0
    assert "2 objects cut out, 1 that stand" in capsys.readouterr().out
    assert count_frames(out / "day.mp4") == 5
    assert {"day.mp4", "labels.jsonl", "contact.jpg", "day.json"} <= {path.name for path in out.iterdir()}
    assert main(asked(street_files, out, "--seed", "3", "--frames", "20")) == SettingsError.exit_code


def test_what_cannot_be_read_is_refused_by_what_it_is_and_leaves_nothing(
    street_files: tuple[Path, Path], tmp_path: Path
) -> None:
    video, labels = street_files
    out, none = tmp_path / "out", tmp_path / "none"
    assert main(asked((none, labels), out)) == CameraError.exit_code
    assert main(asked((video, none), out)) == InputError.exit_code
    assert not out.exists()


def test_without_frames_there_is_a_sheet_and_a_check_and_no_clip(
    street_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    composer = Composer(load_cast(*street_files, CLASSES), 2)
    frames = real_frames(*street_files, 2, CLASSES) + clear_frames(composer, 2)
    known = {picture.tobytes(): labels for picture, labels in frames}
    here = "culling.cloud.study.day.check."
    monkeypatch.setattr(here + "first_student", lambda settings, classes: (None, classes))
    monkeypatch.setattr(here + "student", lambda model, long_side: lambda picture: known[picture.tobytes()])
    monkeypatch.setattr(here + "load_teacher", lambda settings: Teacher())

    class Teacher:
        def label(self, pictures: list[Any]) -> list[Detections]:
            return [known[picture.tobytes()] for picture in pictures]

    out = tmp_path / "out"
    assert main(asked(street_files, out, "--seed", "2", "--frames", "0", "--check", "2")) == 0
    told = capsys.readouterr().out
    assert "Is the composed day as hard as the clip?" in told
    assert "2 real and 2 composed frames of clear day" in told
    assert {path.name for path in out.iterdir() if path.is_file()} - {"day.lock"} == {"contact.jpg", "day.json"}
