"""The difference detector: which earlier frame each frame hardly differs from, so that its answer stands.

The edge's detector (`edge/camera/difference.py`) learns its level as frames come, from the boxes that its student
would have lost, and looks again after a second. A query has the whole video: levels are tried out, and the error of
the one that is taken lies inside the bound. What both share is the measure, the mean absolute difference of a small
grey picture from the last one looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = (36, 64)
"""Size of the grey picture, (height, width): a person at some distance is still a pixel or two."""
SHARES = (0.5, 0.75, 0.9)
"""Shares of frames that levels are sought for to leave out; besides, all frames are looked at."""
STEPS = 10
"""Halvings by which a level is sought: a thousandth of the range."""


@dataclass(frozen=True)
class Standing:
    """For each frame, as an index, `by` `(N,)`: the frame whose answer stands for it, itself where it is looked at."""

    level: float
    by: NDArray[np.int64]

    @property
    def looked(self) -> NDArray[np.int64]:
        """The frames that are looked at, ascending."""
        return np.unique(self.by)


def standing(greys: NDArray[np.uint8], level: float) -> Standing:
    """Return which frame stands for each of `greys` `(N, h, w)` where differences up to `level` do not matter."""
    by = np.arange(len(greys))
    if level > 0 and len(greys):
        last, shown = 0, greys[0].astype(np.int16)
        for number in range(1, len(greys)):
            if np.abs(greys[number] - shown).mean() > level:
                last, shown = number, greys[number].astype(np.int16)
            by[number] = last
    return Standing(level, by)


def candidates(greys: NDArray[np.uint8], shares: Sequence[float] = SHARES) -> list[Standing]:
    """Return ways to leave out frames, from none to about each of `shares`, each of them once."""
    found = {len(greys): standing(greys, 0.0)}
    for share in shares:
        one = _leaving_out(greys, share)
        found.setdefault(len(one.looked), one)
    return list(found.values())


def _leaving_out(greys: NDArray[np.uint8], share: float) -> Standing:
    """Return the least level at which `share` of the frames are left out, as near as steps come."""
    low, high = 0.0, 64.0
    best = standing(greys, high)
    for _ in range(STEPS):
        middle = math.sqrt((low or 1 / 16) * high)
        one = standing(greys, middle)
        if len(one.looked) <= (1 - share) * len(greys):
            best, high = one, middle
        else:
            low = middle
    return best
