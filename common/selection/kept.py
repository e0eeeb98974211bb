"""When frames were kept, and what they looked like: what spacing and likeness bar. No I/O; time is passed in."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

LOOK_BACK = 64
"""How many kept thumbnails a new frame is compared with: more than a window keeps by default."""


class Kept:
    """The frames that were kept: those that left at once, and those that wait."""

    def __init__(self, spacing_s: float, change: float) -> None:
        self._spacing_s = spacing_s
        self._change = change
        self._left = self._waits = -math.inf
        self._thumbnails: deque[NDArray[np.int16]] = deque(maxlen=LOOK_BACK)

    def too_soon(self, now: float, leaves: bool = False) -> bool:
        """Return whether spacing bars a frame; one that `leaves` at once is not barred by one that only waits."""
        last = self._left if leaves else max(self._left, self._waits)
        return now - last < self._spacing_s

    def looks_like(self, thumbnail: NDArray[np.uint8] | None) -> bool:
        """Return whether a kept frame looked nearly the same, by the cell that changed most.

        The mean over all cells would not see a small object in a still scene: it fills a cell or two.
        """
        if thumbnail is None or not self._change:
            return False
        return any(
            kept.shape == thumbnail.shape and float(np.abs(kept - thumbnail).max()) < self._change
            for kept in self._thumbnails
        )

    def add(self, now: float, thumbnail: NDArray[np.uint8] | None, leaves: bool) -> None:
        """Note that a frame is kept."""
        if leaves:
            self._left = now
        else:
            self._waits = now
        if thumbnail is not None:
            self._thumbnails.append(thumbnail.astype(np.int16))
