"""A difference detector in front of the student: a frame that looks like the last one inferred need not be inferred.

It is the first stage of NoScope (VLDB 2017), calibrated by the student itself. Whenever a frame is inferred, it is
known how much it differs from the one inferred before (mean absolute difference of a small grey picture), and how many
boxes would have been missing had the detections from before stood in its place. From the newest of those pairs follows
the largest difference up to which no larger share of the boxes is lost than is allowed.

The frame inferred last is what others are compared with, rather than a slowly averaged background, in which an object
that came to rest is missed and one that left stays.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from culling.common.config import Section
from culling.common.frame import Detections, iou

GRID = (36, 64)
"""Size of the grey picture, (height, width)."""
LEARNING = 50
"""Pairs that are needed before a frame is skipped; a camera's first frames are all inferred."""
KEPT = 300
"""The newest pairs, which are gone by."""
PROBE = 5
"""One of so many frames that might be skipped is inferred, and counts for all: the others tell nothing of the loss."""
SURE = 0.4
"""Boxes from this score on are missed."""
SAME_PLACE = 0.5


class DifferenceSettings(Section):
    """`[difference]`: with `skip`, frames that have hardly changed are not inferred, the last detections stand.

    The share `lost` of the boxes in skipped frames may be missing by that, as far as the past tells; no frame is
    skipped that comes `longest_s` seconds after the last one that was inferred.
    """

    skip: bool = False
    lost: float = Field(default=0.05, ge=0, le=1)
    longest_s: float = Field(default=1.0, gt=0, le=60)


class Difference:
    """What one camera showed when its student looked last, and what a difference from it has meant so far."""

    def __init__(self, settings: DifferenceSettings) -> None:
        self._settings = settings
        self._shown: NDArray[np.int16] | None = None
        self._shown_at = 0.0
        self._standing: Detections | None = None
        self._difference = 0.0
        self._weight = 1
        self._alike = 0
        self._pairs: deque[tuple[float, float, float]] = deque(maxlen=KEPT)
        self._level = -math.inf

    def unchanged(self, grey: NDArray[np.uint8], at: float, wanted: bool = False) -> bool:
        """Return whether a frame may be skipped, which is shown by `grey`, `GRID`, and came `at`, in seconds.

        A frame that is `wanted` may not. Where the answer is no, it is inferred, and `inferred` is told of it.
        """
        now = grey.astype(np.int16)
        self._difference = math.inf if self._shown is None else float(np.abs(now - self._shown).mean())
        alike = self._difference <= self._level and at - self._shown_at < self._settings.longest_s
        self._alike += alike
        self._weight = PROBE if alike else 1
        if alike and not wanted and self._alike % PROBE:
            return True
        self._shown, self._shown_at = now, at
        return False

    def inferred(self, found: Detections) -> None:
        """Take what the student found in the frame asked about last, which stands from now on, and learn from it."""
        found, before = found.above(SURE), self._standing
        self._standing = found
        if before is not None and math.isfinite(self._difference):
            lost = self._weight * missing(before, found)
            self._pairs.append((self._difference, lost, self._weight * len(found)))
            self._calibrate()

    def forget(self) -> None:
        """Have the next frame inferred: what became of the last one is not known."""
        self._shown = self._standing = None

    def _calibrate(self) -> None:
        if len(self._pairs) < LEARNING:
            return
        differences, lost, boxes = np.array(sorted(self._pairs)).T
        whole = np.append(differences[1:] > differences[:-1], True)  # of equal differences all are borne, or none is
        bearable = np.flatnonzero(whole & (lost.cumsum() <= self._settings.lost * boxes.cumsum()))
        self._level = float(differences[bearable[-1]]) if len(bearable) else -math.inf


def missing(standing: Detections, found: Detections) -> int:
    """Return how many of the boxes `found` have none of their class at IoU 0.5 among those that stand in for them."""
    alike = iou(found.boxes, standing.boxes) >= SAME_PLACE
    alike &= found.labels[:, None] == standing.labels[None]
    return int(np.count_nonzero(~alike.any(axis=1)))
