from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.query import eyes
from culling.cloud.query.difference import GRID
from culling.cloud.query.eyes import Sight, watch
from culling.cloud.teacher.remembered import Remembered
from culling.common.errors import CameraError
from culling.common.frame import Detections
from support.clips import make_clip, make_hole, number_of


def as_detections(number: int) -> Detections:
    """A frame's number as so many boxes."""
    return Detections(np.zeros((number, 4), np.float32), np.ones(number, np.float32), np.zeros(number, np.int64))


class Look:
    """Finds as many boxes as a frame's number; remembers which frames it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def student(self, picture: NDArray[np.uint8]) -> Detections:
        self.shown.append(number_of(picture))
        return as_detections(self.shown[-1])

    def teacher(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        return [self.student(picture) for picture in pictures]


def sight(clip: Path, folder: Path) -> tuple[Sight, Look, Look]:
    student, teacher = Look(), Look()
    remembered = Remembered(teacher.teacher, folder / "seen.jsonl", "teacher", 2)
    made = Sight(watch(clip), student.student, lambda found: len(found) / 100, remembered, lambda found: len(found) > 4)
    return made, student, teacher


def test_a_video_is_played_once_for_its_grey_pictures(tmp_path: Path) -> None:
    footage = watch(make_clip(tmp_path / "clip.mp4", frames=12, fps=10))
    assert footage.numbers == tuple(range(12))
    assert footage.greys.shape == (12, *GRID)
    assert footage.size == (160, 128)
    assert footage.rate == pytest.approx(10)
    assert footage.lost == 0
    assert (footage.cut, footage.announced) == (False, 12)
    first = watch(tmp_path / "clip.mp4", most=5)
    assert first.numbers == tuple(range(5))
    assert first.cut


def test_frames_have_the_times_at_which_they_are_shown(tmp_path: Path) -> None:
    even = watch(make_clip(tmp_path / "even.mp4", frames=4, fps=10))
    assert even.times == pytest.approx((0.0, 0.1, 0.2, 0.3))
    gap = [0, 100, 200, 60_200, 60_300]
    assert watch(make_clip(tmp_path / "gap.mp4", frames=5, times_ms=gap)).times == pytest.approx(
        [at / 1e3 for at in gap]
    )


def test_a_file_that_does_not_say_when_is_timed_by_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3, fps=10)
    played = list(eyes.play(clip))
    for one in played:
        assert one.picture is not None
        one.picture.pts = None
    monkeypatch.setattr(eyes, "play", lambda video: iter(played))
    assert watch(clip).times == pytest.approx((0.0, 0.1, 0.2))


def test_a_video_that_lies_on_its_side_is_as_high_as_it_is_shown(tmp_path: Path) -> None:
    assert watch(make_clip(tmp_path / "clip.mp4", frames=3, rotation=90)).size == (128, 160)


def test_frames_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4", frames=40)
    footage = watch(make_hole(whole, tmp_path / "holed.mp4"))
    assert footage.lost > 0
    assert len(footage.numbers) == len(footage.greys) == 40 - footage.lost
    assert footage.held == 40
    assert replace(footage, announced=90).held == 90
    assert replace(footage, announced=90, cut=True).held == 40


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(CameraError, match=r"notes\.txt"):
        watch(tmp_path / "notes.txt")


def test_each_looks_at_the_frames_that_it_is_asked_for_and_at_each_once(tmp_path: Path) -> None:
    made, student, teacher = sight(make_clip(tmp_path / "clip.mp4"), tmp_path)
    assert made.student(np.array([9, 3, 3])).tolist() == pytest.approx([0.09, 0.03, 0.03])
    assert made.teacher(np.array([7, 2])).tolist() == [True, False]
    assert made.student(np.array([3, 5])).tolist() == pytest.approx([0.03, 0.05])
    assert student.shown == [3, 9, 5]
    assert teacher.shown == [2, 7]
    assert all(price > 0 for price in made.price())


def test_what_the_teacher_said_is_kept_and_so_is_the_time_that_it_took(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    first, _, _ = sight(clip, tmp_path)
    first.teacher(np.array([1, 8]))
    again, _, teacher = sight(clip, tmp_path)
    assert again.teacher(np.array([8, 1])).tolist() == [True, False]
    assert teacher.shown == []
    assert again.price()[1] == pytest.approx(first.price()[1], abs=1e-6)
