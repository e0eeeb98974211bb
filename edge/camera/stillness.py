"""Tells a camera whose picture is frozen or black from one that looks at a quiet scene.

A live picture is never the same twice: sensor noise alone changes pixels. So equality is exact, and on single pixels
rather than averages, which do not change for minutes in a quiet scene at night.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FROZEN_S = 20.0
"""Longer than a camera's own hiccups, short enough that little of a frozen picture is ever inferred."""
BLACK = 24
"""A picture without a brighter pixel is black; sensor noise in the dark stays below."""


class Stillness:
    """Watches each picture of one connection, as `(h, w)` uint8 grey."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._black = False
        self._since = 0.0

    def frozen(self, grey: NDArray[np.uint8], now: float) -> bool:
        """Return whether the picture has been the same, or black, for `FROZEN_S`; `now` is in monotonic seconds."""
        black = bool(grey.max() <= BLACK)
        same = (black and self._black) or (self._last is not None and np.array_equal(grey, self._last))
        self._last, self._black = grey, black
        if not same:
            self._since = now
        return now - self._since >= FROZEN_S
