"""What a student did on each frame, in rows that average precisions under a thousand weightings are computed from.

Matching boxes is slow and does not depend on how much a frame counts, so it is done once. `Ranked` then has every box
of a class in the order of its score, and one product of arrays gives the precision under each weighting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.matching import IOUS, Compared, match

Array = NDArray[np.float64]

ALARM = 0.5
"""Score from which a box is an alarm: what outputs tell of, unless told otherwise. Lower ones are doubts, of which no
one is told: a bus of .25 beside the truck of .8, for one van."""

MOST_NUMBERS = 1 << 16
"""Weightings times boxes that are computed at once: more would only leave the processor's cache."""

_RECALLS = 100
_SLACK = 1e-9  # sums of weights are not exact, and recall must reach 1


@dataclass(frozen=True)
class Tally:
    """One student on one frame, at one overlap, by class: how many true `objects` `(C,)` there are, the `scores` of its
    boxes that count, best first, and which of them `hits`; the last two are arrays `(D,)` for each of C classes.
    """

    objects: tuple[int, ...]
    scores: tuple[NDArray[np.float32], ...]
    hits: tuple[NDArray[np.bool_], ...]

    def alarmed(self, label: int) -> bool:
        """Return whether a box of that class, with a score of `ALARM` at least, lies where nothing of it is."""
        return bool((~self.hits[label] & (self.scores[label] >= ALARM)).any())


def tallies(frame: Compared, classes: int, ious: Array = IOUS) -> list[Tally]:
    """Return the tally of a frame at each of `ious`: COCO's ten overlaps, the first of which is that of AP50."""
    objects = tuple(int((frame.true.labels == label).sum()) for label in range(classes))
    rows = [match(frame, label, ious) for label in range(classes)]
    return [
        Tally(
            objects,
            tuple(scores[counted[level]] for scores, _, counted in rows),
            tuple(hit[level][counted[level]] for _, hit, counted in rows),
        )
        for level in range(len(ious))
    ]


def tally(frame: Compared, classes: int) -> Tally:
    """Return the tally of a frame at the overlap of AP50 alone."""
    return tallies(frame, classes, IOUS[:1])[0]


@dataclass(frozen=True)
class Ranked:
    """All boxes of one class over F frames, best first: the `frame` `(D,)` of each, which are a `hit` `(D,)`, and how
    many `objects` `(F,)` each frame has.
    """

    frame: NDArray[np.intp]
    hit: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def precision(self, weights: Array) -> Array:
        """Return the average precision under each of R weightings `(R, F)`: `(R,)`, NaN where nothing true counts."""
        rows = max(1, MOST_NUMBERS // max(1, len(self.hit)))
        parts = [self._precision(weights[start : start + rows]) for start in range(0, len(weights), rows)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _precision(self, weights: Array) -> Array:
        total = weights @ self.objects.astype(np.float64)
        known, hits = total > 0, np.flatnonzero(self.hit)
        if not len(hits):
            return np.where(known, 0.0, np.nan)
        each = weights[:, self.frame]
        seen = np.cumsum(each, axis=1)[:, hits]
        right = np.cumsum(each[:, hits], axis=1)
        # Precision is highest, and recall rises, only at a hit: the boxes between two of them need no point.
        precision = np.maximum.accumulate((right / np.maximum(seen, 1e-300))[:, ::-1], axis=1)[:, ::-1]
        recall = right / np.where(known, total, 1.0)[:, None]
        found = _at_recalls(recall, precision)
        found[~known] = np.nan
        return found


def rank(frames: Sequence[Tally], label: int) -> Ranked:
    """Return the boxes of class `label` over `frames`; of equal scores those of the earlier frame go first."""
    scores = [frame.scores[label] for frame in frames]
    hits = np.concatenate([frame.hits[label] for frame in frames]) if frames else np.zeros(0, np.bool_)
    owner = np.repeat(np.arange(len(frames)), [len(part) for part in scores])
    order = np.argsort(-np.concatenate(scores), kind="stable") if frames else np.zeros(0, np.intp)
    objects = np.array([frame.objects[label] for frame in frames], np.int64)
    return Ranked(owner[order], hits[order], objects)


def _at_recalls(recall: Array, precision: Array) -> Array:
    """Return the mean precision of each row at COCO's 101 recalls; what is never reached counts 0."""
    reached = np.floor(_RECALLS * (recall + _SLACK)) + 1.0
    return np.asarray((precision * np.diff(reached, axis=1, prepend=0.0)).sum(1) / (_RECALLS + 1))
