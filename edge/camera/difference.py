"""A difference detector in front of the student: it skips frames that look like the last one that was inferred.

It is the first stage of NoScope (VLDB 2017), calibrated by the student itself. Each inferred frame tells how much it
differs from the one inferred before it (mean absolute difference of a small grey picture), and how many boxes would be
missing if the earlier detections stood in for its own. The newest of those pairs give the largest difference up to
which no more than the allowed share of boxes is lost.

Frames are compared with the last inferred frame rather than with a slowly averaged background, which would miss an
object that has come to rest and keep one that has left.
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
"""Size of the grey picture, (height, width): a person at some distance is still a pixel or two."""
LEARNING = 50
"""Pairs that are needed before any frame is skipped: with fewer, a single lost box weighs too much."""
KEPT = 300
"""The newest pairs, from which the level is computed: enough for a stable share, few enough to follow the light."""
PROBE = 5
"""One of so many frames that could be skipped is inferred and stands for all of them: the others show no loss."""
SURE = 0.4
"""Score from which a box counts as lost when it is missing."""
SAME_PLACE = 0.5
"""IoU from which two boxes are the same object, as in AP50."""


class DifferenceSettings(Section):
    """`[difference]`: with `skip`, frames that have hardly changed are not inferred, and the last detections stand.

    By the measure of past frames, at most the share `lost` of the boxes in skipped frames may be missing. A frame that
    comes `longest_s` seconds after the last inferred one is never skipped.
    """

    skip: bool = Field(
        default=False,
        description="leave out of inference what hardly differs from the frame inferred last; its detections stand in",
    )
    lost: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of boxes in skipped frames that may be missing, as far as the past tells; not a bound",
    )
    longest_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds after an inferred frame by which the next one is inferred in any case",
    )


class Difference:
    """The last inferred picture of one camera, and what differences from such a picture have meant so far."""

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
        """Return whether to skip the frame that `grey`, `GRID`, shows and that came `at`, in seconds.

        A `wanted` frame is never skipped. If the answer is no, infer the frame and pass the result to `inferred`.
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
        """Learn from what the student found in the last frame that was not skipped; it stands for the next ones."""
        found, before = found.above(SURE), self._standing
        self._standing = found
        if before is not None and math.isfinite(self._difference):
            lost = self._weight * missing(before, found)
            self._pairs.append((self._difference, lost, self._weight * len(found)))
            self._calibrate()

    def forget(self) -> None:
        """Have the next frame inferred, because the last one has no result."""
        self._shown = self._standing = None

    def _calibrate(self) -> None:
        if len(self._pairs) < LEARNING:
            return
        differences, lost, boxes = np.array(sorted(self._pairs)).T
        # Equal differences are allowed together, or not at all.
        whole = np.append(differences[1:] > differences[:-1], True)
        allowed = np.flatnonzero(whole & (lost.cumsum() <= self._settings.lost * boxes.cumsum()))
        self._level = float(differences[allowed[-1]]) if len(allowed) else -math.inf


def missing(standing: Detections, found: Detections) -> int:
    """Return how many of the boxes `found` match no box of their class at IoU 0.5 among the `standing` ones."""
    alike = iou(found.boxes, standing.boxes) >= SAME_PLACE
    alike &= found.labels[:, None] == standing.labels[None]
    return int(np.count_nonzero(~alike.any(axis=1)))
