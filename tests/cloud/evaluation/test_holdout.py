from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.evaluation.holdout import HeldOut, plan
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import CameraError, InputError
from culling.common.frame import Detections
from culling.common.video import count_frames, read_frames
from support import tiny
from support.clips import make_clip, make_hole

FRAMES, WIDTH, HEIGHT = 20, 160, 128
NUMBERS = range(12, FRAMES)


class Oracle:
    """A teacher that remembers what it was shown and sees one person in everything."""

    def __init__(self) -> None:
        self.shown = 0

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.shown += len(frames)
        return [person() for _ in frames]


def person() -> Detections:
    box = np.array([[10, 10, 60, 60]], np.float32)
    return Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", frames=FRAMES, width=WIDTH, height=HEIGHT)


def read(clip: Path, count: int, labels: Path | None = None, oracle: Any = None) -> tuple[HeldOut, Any]:
    oracle = oracle or Oracle()
    return HeldOut(plan(clip, 0.6, count, labels), oracle), oracle


def test_only_what_lies_behind_the_fraction_is_shown_to_the_teacher(clip: Path) -> None:
    held_out, oracle = read(clip, count=100)
    assert len(held_out) == oracle.shown == len(NUMBERS)
    held_out, oracle = read(clip, count=3)
    assert len(held_out) == oracle.shown == 3


def test_a_damaged_beginning_of_what_is_held_back_is_left_out(tmp_path: Path) -> None:
    clip = make_hole(make_clip(tmp_path / "whole.ts", frames=60), tmp_path / "hole.ts")
    numbers = range(count_frames(clip))
    lost = sorted({*numbers} - {number for number, _ in read_frames(clip, numbers)})
    rows = [Label("hole.ts", number, WIDTH, HEIGHT, person(), "") for number in numbers]
    write_labels(tmp_path / "labels.jsonl", rows)
    oracle = Oracle()
    tail = HeldOut(plan(clip, lost[0] / len(numbers), 1000, tmp_path / "labels.jsonl"), oracle)
    assert len(tail) == len(numbers) - lost[0] - len(lost)


def test_a_clip_too_short_to_hold_anything_back_is_refused(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "one.mp4", frames=1, width=WIDTH, height=HEIGHT)
    with pytest.raises(CameraError, match="leave none to hold back"):
        read(one, count=3)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_text("not a video")
    with pytest.raises(CameraError, match=r"no\.mp4: cannot be read as a video"):
        read(tmp_path / "no.mp4", count=3)


def test_a_student_is_scored_against_teacher_and_label_file(clip: Path, tmp_path: Path) -> None:
    rows = [Label("clip.mp4", number, WIDTH, HEIGHT, person(), "") for number in range(0, FRAMES, 2)]
    write_labels(tmp_path / "labels.jsonl", rows)
    (tmp_path / "student.onnx").write_bytes(tiny.student())
    held_out, _ = read(clip, 3, tmp_path / "labels.jsonl")
    scores = held_out.score(tmp_path / "student.onnx", 1.0)
    assert scores.teacher is not None
    assert scores.labels is not None
    assert scores.teacher.frames == 3
    assert scores.labels.frames <= 4, "labels before the fraction were fed to the loop and do not count"
    assert 0 <= scores.teacher.ap50_95 <= scores.teacher.ap50 <= 1


def test_without_a_label_file_there_is_no_second_score(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_bytes(tiny.student())
    assert read(clip, 2)[0].score(tmp_path / "student.onnx", 0.9).labels is None


def test_labels_that_end_before_the_held_back_part_are_refused_at_once(clip: Path, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.jsonl", [Label("clip.mp4", 3, WIDTH, HEIGHT, person(), "")])
    with pytest.raises(InputError, match=r"no labelled frame lies between 0\.6 and 1\.0"):
        plan(clip, 0.6, 3, tmp_path / "labels.jsonl")


def test_labels_beyond_the_end_are_named(clip: Path, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.jsonl", [Label("clip.mp4", n, WIDTH, HEIGHT, person(), "") for n in (99, 15)])
    with pytest.raises(InputError, match=r"labels\.jsonl:1: .*clip\.mp4 has no frame 99"):
        plan(clip, 0.6, 3, tmp_path / "labels.jsonl")


def test_labels_of_another_size_are_scaled_to_the_clip(clip: Path, tmp_path: Path) -> None:
    half = Label("clip.mp4", 15, WIDTH // 2, HEIGHT // 2, person(), "")
    write_labels(tmp_path / "labels.jsonl", [half])
    (box,) = plan(clip, 0.6, 3, tmp_path / "labels.jsonl").labels[15].boxes
    np.testing.assert_allclose(box, [20, 20, 120, 120])


def test_where_the_teacher_sees_nothing_there_is_no_score(clip: Path, tmp_path: Path) -> None:
    class Blind(Oracle):
        def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
            return [Detections.empty() for _ in frames]

    (tmp_path / "student.onnx").write_bytes(tiny.student())
    assert read(clip, 2, oracle=Blind())[0].score(tmp_path / "student.onnx", 1.0).teacher is None


def test_the_teacher_is_judged_by_the_label_file(clip: Path, tmp_path: Path) -> None:
    elsewhere = Detections(person().boxes + 60, np.float32([1]), np.zeros(1, np.int64))
    seen, also, beside = (
        Label("clip.mp4", number, WIDTH, HEIGHT, boxes, "")
        for number, boxes in ((15, person()), (16, person()), (17, elsewhere))
    )
    write_labels(tmp_path / "labels.jsonl", [seen, also])
    held_out, oracle = read(clip, 3, tmp_path / "labels.jsonl")
    found = held_out.score_teacher(oracle, CLASSES)
    assert found is not None
    assert (found.ap50, found.frames) == (1.0, 2)
    write_labels(tmp_path / "labels.jsonl", [seen, beside])
    half = read(clip, 3, tmp_path / "labels.jsonl")[0].score_teacher(oracle, CLASSES)
    assert half is not None
    assert 0.2 < half.ap50 < 0.6
    assert read(clip, 3)[0].score_teacher(oracle, CLASSES) is None


def test_means_are_over_the_classes_of_interest(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_bytes(tiny.student())
    persons, cars = (HeldOut(plan(clip, 0.6, 2, None), Oracle(), interest) for interest in ([0], [2]))

    scores = persons.score(tmp_path / "student.onnx", 1.0).teacher
    assert scores is not None
    assert scores.per_class.keys() == {"person"}
    assert cars.score(tmp_path / "student.onnx", 1.0).teacher is None
