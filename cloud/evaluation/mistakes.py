"""Mistake mass: how much is wrong on one frame in total, where `1 - AP` says what share of its classes is.

    mass  =  sum of t        over true labels that no detection found
          +  sum of s        over detections that neither found a true label nor lie on a doubtful one
          +  sum of t · e(u) over true labels that were found at IoU u,  e(u) = (EXACT - u) / (EXACT - FOUND), in [0, 1]

t is the teacher's score of a label, s the student's score of a detection. A detection finds a label of its own class at
an IoU of at least `FOUND`; the best detection chooses first. A doubtful label is no miss, and excuses detections of its
class that lie on it.

A mean over classes lets a phantom of .21 halve a frame on which twenty cars are right. In a sum that phantom weighs
.21, whatever else is there, and a crowd with ten people missed weighs ten times as much as one with one missed: that is
what training would mend.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.matching import Compared, inside
from culling.common.frame import Detections, iou

FOUND = 0.5
"""The overlap from which a label counts as found: that of AP50."""

EXACT = 0.9
"""The overlap from which a box is right. A detector's own boxes of a parked car mostly overlap by .95 to .99."""

EASY = 0.2
"""A frame with less mass is right: a miss or a false alarm alone weighs more, so its boxes are only a little off."""

LESSONS = 3
"""Students that learnt from a frame without its mistakes falling: the label is wrong, or none of them can learn it."""

UNMOVED = 0.9
"""The share of its mass that a frame still has when its mistakes have not fallen: boxes move a little each time."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Mistakes:
    """What is wrong on one frame. Each row of `boxes` `(M, 4)`, xyxy in pixels, is a mistake of class `labels` `(M,)`.

    `weights` `(M,)` are their shares of the mass, all above 0; `kinds` `(M,)` index `KINDS`.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: Values
    kinds: NDArray[np.int64]

    @property
    def mass(self) -> float:
        """All that is wrong; 0 where nothing is."""
        return float(self.weights.sum())

    @property
    def easy(self) -> bool:
        """Whether the student is right, but for boxes that are a little off."""
        return self.mass < EASY

    def by_class(self) -> dict[int, dict[str, float]]:
        """Return the mass of each class that has any, split into `KINDS`."""
        return {
            int(label): {
                kind: float(self.weights[(self.labels == label) & (self.kinds == at)].sum()) for at, kind in _AT
            }
            for label in np.unique(self.labels)
        }


KINDS = ("missed", "false", "loose")
"""A true label that was not found; a detection of nothing; a label that was found by a box that does not fit."""
_AT = tuple(enumerate(KINDS))


def mistakes(frame: Compared, interest: Collection[int] | None = None) -> Mistakes:
    """Return what is wrong on a frame whose detections were already cut at `STUDENT_FLOOR`.

    Only classes of `interest` count, if given.
    """
    found, true, doubtful = (wanted(part, interest) for part in (frame.found, frame.true, frame.doubtful))
    overlaps = np.where(_same(found, true), iou(found.boxes, true.boxes), 0.0).astype(np.float64)
    finder = _matched(overlaps, found.scores)
    hit = finder >= 0
    fit = np.zeros(len(true))
    fit[hit] = overlaps[finder[hit], np.flatnonzero(hit)]
    label_weights = true.scores * np.where(hit, ((EXACT - fit) / (EXACT - FOUND)).clip(0.0, 1.0), 1.0)
    false = ~_excused(found, doubtful) & ~np.isin(np.arange(len(found)), finder)
    weights = np.concatenate([label_weights, found.scores * false]).astype(np.float64)
    kinds = np.concatenate(
        [np.where(hit, KINDS.index("loose"), KINDS.index("missed")), np.full(len(found), KINDS.index("false"))]
    )
    boxes, labels = np.concatenate([true.boxes, found.boxes]), np.concatenate([true.labels, found.labels])
    wrong = weights > 0
    return Mistakes(boxes[wrong], labels[wrong], weights[wrong], kinds[wrong])


def wanted(part: Detections, interest: Collection[int] | None) -> Detections:
    """Return the detections of the classes of `interest`, all for None."""
    return part if interest is None else part.where(np.isin(part.labels, list(interest)))


def _same(one: Detections, other: Detections) -> NDArray[np.bool_]:
    return np.asarray(one.labels[:, None] == other.labels[None])


def _matched(overlaps: Values, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for every label the detection that finds it, -1 where none does; `overlaps` is `(D, L)`."""
    finder = np.full(overlaps.shape[1], -1, np.int64)
    free = np.ones(overlaps.shape[1], np.bool_)
    reaching = np.asarray((overlaps >= FOUND).any(1))
    for at in np.argsort(-scores, kind="stable"):
        if not reaching[at]:
            continue
        left = np.where(free, overlaps[at], 0.0)
        if left[best := int(left.argmax())] >= FOUND:
            finder[best], free[best] = at, False
    return finder


def _excused(found: Detections, doubtful: Detections) -> NDArray[np.bool_]:
    """Return which detections lie, by at least half of their area, on a doubtful label of their class."""
    return np.asarray((_same(found, doubtful) & (inside(found.boxes, doubtful.boxes) >= FOUND)).any(1))


def in_vain(now: Mapping[str, float], taught: Sequence[Mapping[str, float]]) -> set[str]:
    """Return the frames of which the mass has not fallen although `LESSONS` students were trained on them.

    `now` is each frame's mass by the student in use; `taught` are, newest first, the masses that the frames of earlier
    rounds had when these trained on them, of rounds alone whose student went live.
    """
    before: dict[str, list[float]] = {}
    for masses in taught:
        for name in masses.keys() & now.keys():
            before.setdefault(name, []).append(masses[name])
    return {
        name for name, masses in before.items() if len(masses) >= LESSONS and now[name] >= UNMOVED * masses[LESSONS - 1]
    }
