"""Frames on which teacher and student in use dispute most: where a person's look is worth most.

How much is in dispute is the mistake mass of the student by the teacher's labels (`evaluation/mistakes.py`). Who is
right nobody knows yet; a frame that a person has looked at is in dispute no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from culling.cloud.evaluation.ignored import compare_on, outside
from culling.cloud.evaluation.mistakes import KINDS, Mistakes, mistakes
from culling.cloud.evaluation.precision import STUDENT_FLOOR
from culling.cloud.review.desk import Desk
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.index import frames
from culling.cloud.store.people.reviews import reviewed
from culling.common.frame import Detections

AMONG = 1000
"""The newest labelled frames without a review are looked at: about a second's work, and a day and a half of labels."""

TOLD = {"missed": "{} the student has not", "false": "{} the teacher has not", "loose": "{} with other edges"}


@dataclass(frozen=True)
class Dispute:
    """A labelled frame, what the student `model` found there, how much of it is in dispute, and that in words."""

    frame: StoredFrame
    model: str
    found: Detections
    mass: float
    why: str


@dataclass(frozen=True)
class Disputed:
    """Frames in dispute, the most disputed first, and how many there are with those that are not among these."""

    frames: list[Dispute]
    left: int


def disputes(desk: Desk, camera: str, most: int | None = None, students: Students | None = None) -> Disputed:
    """Return the frames that are in dispute, the most disputed first, at most so many.

    Doubt only ever takes from what is in dispute, and takes long to find: it is asked about those that come first. What
    `students` found is read where none are given.
    """
    open_ = frames.c.labels.is_not(None) & ~reviewed()
    newest = desk.store.select(camera, open_, frames.c.captured.desc(), AMONG)
    students, settle = students or Students(desk, camera), desk.settler(camera)
    waiting = sorted(
        ((wrong.mass, frame) for frame in newest if not (wrong := _wrong(desk, frame, students)).easy),
        key=lambda one: (-one[0], one[1].id),
    )
    left, found = len(waiting), list[Dispute]()
    size = max(1, len(waiting) if most is None else most)
    for start in range(0, len(waiting), size):
        if most is not None and len(found) >= most and found[most - 1].mass >= waiting[start][0]:
            break
        asked = settle([frame for _, frame in waiting[start : start + size]])
        new = [one for frame in asked if (one := dispute(desk, frame, students)) is not None]
        left -= len(waiting[start : start + size]) - len(new)
        found = sorted([*found, *new], key=lambda one: (-one.mass, one.frame.id))
    return Disputed(found[:most], left)


class Students:
    """What the student in use finds in frames of a camera; where it never looked, the one that forwarded them."""

    def __init__(self, desk: Desk, camera: str) -> None:
        self._live = desk.registry.live_ids().get(camera, "")
        self._scored = desk.lifecycle.scores(self._live)

    def found(self, frame: StoredFrame) -> tuple[str, Detections]:
        """Return which student it was, and what it found outside places that the camera ignores."""
        if frame.model_id != self._live and frame.id in self._scored:
            return self._live, outside(frame, self._scored[frame.id]).above(STUDENT_FLOOR)
        return frame.model_id, outside(frame, frame.detections).above(STUDENT_FLOOR)


def _wrong(desk: Desk, frame: StoredFrame, students: Students) -> Mistakes:
    teacher, (_, found) = desk.settings.teacher, students.found(frame)
    compared = compare_on(frame, found, teacher.true_score, teacher.min_score)
    return mistakes(compared, desk.settings.round.labels_of_interest(frame.classes))


def dispute(desk: Desk, frame: StoredFrame, students: Students) -> Dispute | None:
    """Return what is in dispute of a labelled frame; None where nothing is."""
    wrong = _wrong(desk, frame, students)
    if wrong.easy:
        return None
    model, found = students.found(frame)
    return Dispute(frame, model, found, round(wrong.mass, 4), _why(wrong, frame.classes))


def _why(wrong: Mistakes, classes: tuple[str, ...]) -> str:
    """Return what is in dispute in words, the most of it first."""
    parts = []
    for kind, words in enumerate(TOLD[name] for name in KINDS):
        mine = wrong.kinds == kind
        labels, counts = np.unique(wrong.labels[mine], return_counts=True)
        boxes = ", ".join(f"{count} {classes[label]}" for label, count in zip(labels, counts, strict=True))
        parts.append((float(wrong.weights[mine].sum()), words.format(boxes)))
    return "; ".join(text for mass, text in sorted(parts, reverse=True) if mass > 0)
