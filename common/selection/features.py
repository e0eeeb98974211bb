"""What the learned selector reads from a frame: a few numbers from the student's outputs alone (after ORIC, SEC 2024).

They say how many boxes there are and how sure the student is of them, how large and where they are, and what changed
since the previous frame: a detector fails where boxes come and go from one frame to the next. Counts and losses enter
by their inverse hyperbolic sine, a logarithm that is defined at 0, so that every feature is bounded.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections, iou
from culling.common.wire.messages import WireFeatures

SPEC = 1
"""Raise it when `FEATURES`, or the meaning of one, changes: a ranker of other features is then refused, not misread."""

FEATURES = (
    "loss",  # confidence loss, asinh
    "faint",  # boxes that score below POSSIBLE, asinh
    "possible",  # boxes from POSSIBLE on, asinh; all that follow are about these
    "likely",  # from .5 on, asinh
    "sure",  # from .8 on, asinh
    "doubt",  # sum of x(1 − x) over their scores x, asinh
    "mean_doubt",  # mean of x(1 − x)
    "mean_score",
    "least_score",
    "best_score",
    "smallest",  # side, the root of a box's area, as a share of the frame's
    "median_side",
    "small",  # share of boxes whose side is below SMALL
    "at_border",  # share of boxes that touch the frame's border
    "crowded",  # share of boxes that overlap another at SAME_PLACE
    "classes",  # how many classes there are
    "commonest",  # share of the most common class
    "come",  # boxes without a match in the previous frame, asinh
    "gone",  # boxes of the previous frame without a match in this one, asinh
    "more",  # how many more boxes than in the previous frame, asinh
    "score_change",  # mean change of the scores of matched boxes
    "relabelled",  # share of matched boxes whose class changed
    "loss_change",  # change of `loss`
)
"""Names, in the order of the vector."""

POSSIBLE, LIKELY, SURE = 0.2, 0.5, 0.8
"""Score levels; 0.2 is also the floor of the paper's confidence loss."""
SMALL = 0.05
"""Side of a small box as a share of the frame's: at an input of 640, COCO's 32 pixels."""
BORDER = 0.01
"""A box touches the border if it ends within this share of the frame from it."""
SAME_PLACE = 0.3
"""IoU from which a box is taken for one of the previous frame; low, because objects move in between."""


def read(told: WireFeatures | None) -> NDArray[np.float64] | None:
    """Return the `FEATURES` in a message, `(F,)`; None if it has none, or others."""
    if told is None or told.spec != SPEC or len(told.values) != len(FEATURES):
        return None
    return np.array(told.values)


class FeatureMeter:
    """Computes the features of one camera's frames, in order; it remembers the previous frame's detections.

    A first frame counts as unchanged.
    """

    def __init__(self) -> None:
        self._before: tuple[Detections, float] | None = None

    def features(self, found: Detections, loss: float, width: int, height: int) -> NDArray[np.float64]:
        """Return the `FEATURES` of the next frame, `(F,)`, all finite.

        `found` are its detections that count, down to the student's lowest score, in pixels of the frame of
        `width` × `height`; `loss` is its confidence loss.
        """
        level = math.asinh(loss)
        seen = found.above(POSSIBLE)
        before, level_before = self._before or (seen, level)
        self._before = seen, level
        return np.array(
            (
                level,
                math.asinh(len(found) - len(seen)),
                *_scores(seen.scores.astype(np.float64)),
                *_places(seen.boxes, width, height),
                *_kinds(seen.labels),
                *_changes(before, seen),
                level - level_before,
            )
        )


def _scores(x: NDArray[np.float64]) -> tuple[float, ...]:
    count = len(x)
    if not count:
        return (0.0,) * 8
    doubt, likely, sure = float(x @ (1.0 - x)), np.count_nonzero(x >= LIKELY), np.count_nonzero(x >= SURE)
    counts = (math.asinh(count), math.asinh(likely), math.asinh(sure), math.asinh(doubt))
    return *counts, doubt / count, float(x.sum()) / count, float(x.min()), float(x.max())


def _places(boxes: NDArray[np.float32], width: int, height: int) -> tuple[float, ...]:
    count = len(boxes)
    if not count:
        return (0.0,) * 5
    frame = np.array((width, height, width, height), np.float32)
    shares = boxes / frame
    spans = shares[:, 2:] - shares[:, :2]
    sides = np.sort(np.sqrt(np.maximum(spans[:, 0] * spans[:, 1], 0.0)))
    edge = np.count_nonzero((shares[:, :2].min(1) < BORDER) | (shares[:, 2:].max(1) > 1.0 - BORDER))
    crowded = np.count_nonzero((iou(boxes, boxes) >= SAME_PLACE).sum(1) > 1)
    small = int(np.searchsorted(sides, SMALL))
    return float(sides[0]), float(sides[count // 2]), small / count, edge / count, crowded / count


def _kinds(labels: NDArray[np.int64]) -> tuple[float, float]:
    if not len(labels):
        return 0.0, 0.0
    counts = np.bincount(labels)
    return float(np.count_nonzero(counts)), float(counts.max()) / len(labels)


def _changes(before: Detections, now: Detections) -> tuple[float, ...]:
    """Return how many boxes came, went and are more, and how scores and classes of the matched ones changed."""
    more = math.asinh(len(now) - len(before))
    if before is now or not len(before) or not len(now):
        came, went = (0, 0) if before is now else (len(now), len(before))
        return math.asinh(came), math.asinh(went), more, 0.0, 0.0
    shared = iou(now.boxes, before.boxes)
    there = shared >= SAME_PLACE
    matched = there.any(1)
    pairs = int(np.count_nonzero(matched))
    gone = len(before) - int(np.count_nonzero(there.any(0)))
    if not pairs:
        return math.asinh(len(now)), math.asinh(gone), more, 0.0, 0.0
    best = shared.argmax(1)[matched]
    score_change = float(np.abs(now.scores[matched] - before.scores[best]).sum()) / pairs
    relabelled = np.count_nonzero(now.labels[matched] != before.labels[best]) / pairs
    return math.asinh(len(now) - pairs), math.asinh(gone), more, score_change, relabelled
