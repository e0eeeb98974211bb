"""A clip small enough to study in seconds: a narrow student, and a teacher that sees the yellow box in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.bill.count import forward_gflops
from culling.cloud.settings import load_settings
from culling.cloud.study.basis.corpus import Corpus
from culling.common.frame import Detections
from culling.common.video import read_frames
from support.clips import make_clip
from support.detectors import small_student
from support.narrow import install

FRAMES, WIDTH, HEIGHT = 25, 128, 96
LEARNT_FROM = 15
LONG_SIDE = WIDTH
"""Of the student's input: frames are not shrunk by it, and graphs are compared with their weights at small sizes."""


class FakeTeacher:
    """Sees the box that moves, as a car; counts the pictures it was shown."""

    def __init__(self) -> None:
        self.shown = 0
        self._gflops = forward_gflops(small_student(), np.zeros((HEIGHT, WIDTH, 3), np.uint8))

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.shown += len(frames)
        return [yellow_box(frame) for frame in frames]

    def gflops(self, height: int, width: int) -> float | None:
        return self._gflops


def yellow_box(frame: NDArray[np.uint8]) -> Detections:
    """Return where the picture is yellow, as one car."""
    red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
    rows, columns = np.nonzero((red > 180) & (green > 150) & (blue < 120))
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    return Detections(box, np.float32([0.9]), np.array([2]))


@dataclass(frozen=True)
class Yard:
    """A clip with labels, and a folder whose cache holds the exported student already."""

    clip: Path
    labels: Path
    out: Path
    weights: Path

    def arguments(self, study: str, *more: str) -> list[str]:
        """Return the arguments of `culling` for a study of a second or two."""
        files = ["--video", str(self.clip), "--labels", str(self.labels), "--out", str(self.out)]
        chosen = (f"student.weights={self.weights}", f"student.long_side={LONG_SIDE}", "round.warmup=1")
        settings = [word for one in chosen for word in ("--set", one)]
        small = ["--n", "2", "--epochs", "0.5", "--frames", str(LEARNT_FROM), "--measured", "3", "--seed", "0"]
        return ["study", study, *files, *settings, *small, *more]

    def corpus(self) -> Corpus:
        """Return what those arguments study."""
        settings = {"service.data_dir": self.out / "cache", "student.weights": str(self.weights)}
        made = load_settings(None, settings | {"student.long_side": LONG_SIDE, "round.warmup": 1})
        return Corpus(self.clip, self.labels, LEARNT_FROM, 3, 1.0, made, 0.5)


def make_yard(folder: Path, narrow: Path, frames: int = FRAMES, fps: int | Fraction = 10) -> Yard:
    """Make a clip and its labels in `folder`."""
    clip = make_clip(folder / "yard.mp4", frames=frames, width=WIDTH, height=HEIGHT, fps=fps)
    found = [(number, yellow_box(frame)) for number, frame in read_frames(clip, range(frames))]
    rows = [Label("yard.mp4", number, WIDTH, HEIGHT, boxes, "") for number, boxes in found]
    write_labels(folder / "yard.jsonl", rows)
    install(narrow, folder / "out" / "cache")
    return Yard(clip, folder / "yard.jsonl", folder / "out", narrow / "student.safetensors")


def use_teacher(monkeypatch: pytest.MonkeyPatch) -> FakeTeacher:
    """Let studies ask a fake teacher, and return it."""
    teacher = FakeTeacher()
    monkeypatch.setattr("culling.cloud.study.basis.corpus.load_teacher", lambda settings: teacher)
    return teacher
