"""What the previous window and this one so far predict about the next frames: a quantile, a fair draw. No I/O."""

from __future__ import annotations

import math
import random
from bisect import insort


class Tail:
    """The upper tail of the losses of the previous window and of this one so far: an exact running quantile."""

    def __init__(self, window_s: float, depth: int) -> None:
        self._window_s = window_s
        self._depth = depth
        self.forget()

    def forget(self) -> None:
        self._this: list[float] = []
        self._both: list[float] = []
        self._before_s = 0.0

    def deepen(self, depth: int) -> None:
        """Remember at least `depth` losses from now on."""
        self._depth = max(self._depth, depth)

    def add(self, loss: float) -> None:
        for losses in (self._this, self._both):
            insort(losses, loss)
            del losses[: -self._depth]

    def level(self, target: int, elapsed: float) -> float:
        """Return the loss that `target` frames per window reach; infinite until enough time has passed.

        It is the higher one of both windows together and of this one alone: a window that is busier than the previous
        one raises it at once.
        """
        rank = math.floor(target * (self._before_s + elapsed) / self._window_s)
        if rank < 1:
            return math.inf
        rank_in_this = max(1, math.ceil(target * elapsed / self._window_s))
        return max(self._nth(self._both, rank), self._nth(self._this, rank_in_this))

    def _nth(self, losses: list[float], rank: int) -> float:
        rank = min(rank, self._depth)
        return losses[-rank] if rank <= len(losses) else 0.0

    def roll(self, elapsed: float) -> None:
        """Make this window the previous one, unless it was empty."""
        if self._this:
            self._both, self._this = self._this.copy(), []
            self._before_s = elapsed


class Lottery:
    """Draws a given number of frames per window, all with the same chance, without knowing how many will come.

    Selection sampling (Knuth, The Art of Computer Programming, vol. 2, algorithm 3.4.2 S). The number of frames left is
    estimated from the previous window or, in the first one, from the frames so far.
    """

    def __init__(self, window_s: float, rng: random.Random) -> None:
        self._window_s = window_s
        self._rng = rng
        self._seen = self._seen_before = 0
        self._before_s = 0.0

    def draw(self, wanted: int, elapsed: float) -> bool:
        """Return whether the next frame is drawn, while `wanted` more are needed from this window."""
        if self._seen_before:
            left = self._seen_before * self._window_s / self._before_s - self._seen
        elif elapsed > 0.0:
            left = self._seen / elapsed * (self._window_s - elapsed)
        else:
            left = math.inf
        self._seen += 1
        return self._rng.random() * max(1.0, left) < wanted

    def roll(self, elapsed: float) -> None:
        if self._seen and elapsed > 0.0:
            self._seen_before, self._seen, self._before_s = self._seen, 0, elapsed
