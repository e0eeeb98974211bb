"""The held-back part of a clip: frames the loop never saw, with the teacher's labels, and those of a label file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from culling.cloud.annotations.lines import read_labels
from culling.cloud.evaluation.evaluate import DOUBTFUL, EvaluationResult, open_model, score, select
from culling.cloud.evaluation.matching import Compared, compare
from culling.cloud.evaluation.mistakes import Mistakes, mistakes
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import CameraError, InputError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.scaler import LONG_SIDE
from culling.common.video import count_frames, read_frames

TRUE_SCORE = 0.4
"""A box from this score on is true, the teacher's as in a round's gate, the label file's as in `culling evaluate`."""

Truth = dict[int, Detections]


class Labeller(Protocol):
    """What labels frames `(H, W, 3)` RGB: a teacher, or a cache of its labels."""

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what is seen in each frame, in that order, boxes in the frame's pixels."""


@dataclass(frozen=True)
class HeldOutScores:
    """One model on the held-back part, against teacher and label file; None where those see nothing to measure by."""

    teacher: EvaluationResult | None
    labels: EvaluationResult | None


@dataclass(frozen=True)
class HeldOutPlan:
    """Which frames of `video` are measured: `numbers`, and those that `labels` has, which are by the list `classes`."""

    video: Path
    numbers: frozenset[int]
    labels: Truth
    classes: tuple[str, ...] = CLASSES


def plan(
    video: Path,
    first: float,
    count: int,
    label_file: Path | None,
    last: float = 1.0,
    classes: tuple[str, ...] = CLASSES,
) -> HeldOutPlan:
    """Choose `count` frames, evenly spaced, between two fractions of the clip, and as many labelled ones.

    Labels, the teacher's too, are by the list `classes`.

    Raises `CameraError` when nothing lies there, `InputError` for labels that cannot be used or lie elsewhere.
    """
    total = count_frames(video)
    start, end = round(first * total), round(last * total)
    if start >= end:
        raise CameraError(f"{video}: its {total} frames leave none to hold back")
    numbers = frozenset(int(number) for number in np.linspace(start, end - 1, min(count, end - start)))
    if label_file is None:
        return HeldOutPlan(video, numbers, {}, classes)
    own = list(select(read_labels(label_file, classes), video, total, first, last).values())
    if (latest := max(own, key=lambda row: row.frame)).frame >= total:
        raise InputError(f"{latest.at}: {video} has no frame {latest.frame}")
    size = next((frame.shape[:2] for _, frame in read_frames(video, range(start, end))), None)
    if size is None:
        raise CameraError(f"{video}: none of the frames that are held back can be decoded")
    picked = own[:: max(1, -(-len(own) // count))]
    told = {row.frame: to_frame(row.detections, (row.height, row.width), size) for row in picked}
    return HeldOutPlan(video, numbers, told, classes)


class HeldOut:
    """The frames of a plan, and what the teacher sees in them; a frame that does not decode is left out.

    Means are over the classes of `interest` (indices), as a round's are, or over all. Students see each frame as
    `shown` makes it of its number and picture.
    """

    def __init__(
        self,
        chosen: HeldOutPlan,
        teacher: Labeller,
        interest: Collection[int] | None = None,
        shown: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]] = lambda number, frame: frame,
    ) -> None:
        self._interest, self._classes = interest, chosen.classes
        self._frames: dict[int, NDArray[np.uint8]] = dict(
            read_frames(chosen.video, chosen.numbers | chosen.labels.keys())
        )
        asked = [number for number in self._frames if number in chosen.numbers]
        found = teacher.label([self._frames[number] for number in asked])
        self._teacher: Truth = dict(zip(asked, found, strict=True))
        self._labels: Truth = {number: label for number, label in chosen.labels.items() if number in self._frames}
        self._frames = {number: shown(number, frame) for number, frame in self._frames.items()}

    def __len__(self) -> int:
        return len(self._teacher)

    def score(self, model: Path, scale: float, long_side: int = LONG_SIDE) -> HeldOutScores:
        """Return how good the student in `model` is with the input size that its manifest says."""
        found = self.found(model, scale, long_side)
        return HeldOutScores(*(self._score(found, truth) for truth in (self._teacher, self._labels)))

    def found(self, model: Path, scale: float, long_side: int = LONG_SIDE) -> Truth:
        """Return what the student in `model` finds in each frame, with the input size that its manifest says."""
        detect, classes = open_model(model, scale, long_side)
        return {number: detect(frame).among(classes, self._classes) for number, frame in self._frames.items()}

    def score_teacher(self, teacher: Labeller, classes: tuple[str, ...]) -> EvaluationResult | None:
        """Return how good whoever labels `classes` is by the label file; None where that has nothing to measure by."""
        return self.by_labels(self.answers(teacher, classes))

    def answers(self, teacher: Labeller, classes: tuple[str, ...]) -> Truth:
        """Return what whoever labels `classes` sees in each frame that the label file has."""
        found = teacher.label([self._frames[number] for number in self._labels])
        ours = [one.among(classes, self._classes) for one in found]
        return dict(zip(self._labels, ours, strict=True))

    def by_labels(self, found: Truth) -> EvaluationResult | None:
        """Return how good detections are by the label file, in all of its frames; None where it has no object."""
        return self._score(found, self._labels)

    def mistakes_by_labels(self, found: Truth) -> dict[int, Mistakes]:
        """Return what is wrong with detections by the label file, in each of its frames."""
        return {number: mistakes(one, self._interest) for number, one in _compared(found, self._labels).items()}

    def _score(self, found: Truth, truth: Truth) -> EvaluationResult | None:
        try:
            return score(list(_compared(found, truth).values()), self._classes, self._interest)
        except InputError:
            return None  # no object to measure by, which is not the student's fault


def _compared(found: Truth, truth: Truth) -> dict[int, Compared]:
    return {number: compare(found[number], label, TRUE_SCORE, DOUBTFUL) for number, label in truth.items()}
