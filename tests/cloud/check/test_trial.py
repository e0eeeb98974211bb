from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.check.contact import contact_sheet
from culling.cloud.check.trial import MEASURED, try_out
from culling.cloud.settings import TeacherSettings
from culling.common.errors import CameraError
from culling.common.frame import Detections
from support.clips import make_clip
from support.graphs import answering


@pytest.fixture
def seer(tmp_path: Path) -> TeacherSettings:
    """A teacher that sees a car in the same place of every frame."""
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, 0] = [24, 16, 56, 40, 0.9, 2]
    (tmp_path / "seer.onnx").write_bytes(answering({"found": raw}))
    return TeacherSettings(kind="onnx", file=tmp_path / "seer.onnx")


def write(path: Path, box: tuple[float, ...], frames: int) -> Path:
    found = Detections(np.array([box], np.float32), np.ones(1, np.float32), np.array([2]))
    write_labels(path, [Label("yard.mp4", number, 96, 64, found, "") for number in range(frames)])
    return path


def test_a_teacher_is_shown_on_ten_frames_with_what_it_costs(seer: TeacherSettings, tmp_path: Path) -> None:
    trial, shown = try_out(seer, make_clip(tmp_path / "yard.mp4", frames=25, width=96, height=64), None)
    assert [one.number for one in shown] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    assert (trial.kind, trial.device, trial.names, trial.frames, trial.size) == ("onnx", "cpu", 80, 10, (96, 64))
    assert trial.says["car"] == ["car"]
    assert trial.boxes == {"car": 10}
    assert trial.precision == {}
    assert trial.ms > 0
    assert trial.memory_mib > 10


def test_labels_tell_its_precision(seer: TeacherSettings, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "yard.mp4", frames=MEASURED + 15, width=96, height=64)
    right, _ = try_out(seer, clip, write(tmp_path / "right.jsonl", (24, 16, 56, 40), MEASURED + 15))
    assert (right.precision["car"].ap50, right.precision["car"].ap50_95) == pytest.approx((1, 1))
    assert right.precision["car"].objects <= MEASURED
    wrong, _ = try_out(seer, clip, write(tmp_path / "wrong.jsonl", (60, 40, 90, 60), 5))
    assert wrong.precision["car"].ap50 == 0


def test_what_is_no_video_is_named(seer: TeacherSettings, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"none\.mp4"):
        try_out(seer, tmp_path / "none.mp4", None)


def test_the_sheet_is_one_picture_of_all_frames(seer: TeacherSettings, tmp_path: Path) -> None:
    _, shown = try_out(seer, make_clip(tmp_path / "yard.mp4", frames=3, width=96, height=64), None)
    assert contact_sheet(shown).startswith(b"\x89PNG")
