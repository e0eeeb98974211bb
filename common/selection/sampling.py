"""What the previous window and this one so far predict about the next frames, and two fair draws. No I/O."""

from __future__ import annotations

import math
import random
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice


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


@dataclass(frozen=True)
class Draw:
    """One frame's part in the draw of its window: its `lot` in [0, 1), and how many frames have drawn (`among`), it
    included. `ousts` is the lot of the frame whose place it takes, if it takes one.
    """

    lot: float
    among: int
    ousts: float | None = None


class Reservoir:
    """Draws `size` frames of a window, all with the same chance, although nobody knows how many will come.

    Every frame draws a lot, and those of the lowest lots are drawn: whichever moment the window ends at, they are a
    uniform sample of the frames so far (bottom-k sampling). It stays one when frames that drew no place are added
    later by their lots, or when a smaller sample is wanted at the end.

    Lots are drawn some frames ahead, so that it is known when one of the next frames may be drawn (`soon`).

    `lots` and `among` are what a reservoir before a restart left: the lots of its frames, and how many had drawn.
    """

    def __init__(self, rng: random.Random, lots: Sequence[float] = (), among: int = 0) -> None:
        self._rng = rng
        self._coming: deque[float] = deque()
        self._lots = sorted(lots)
        self.among = among if lots else 0  # with none of its frames left, a draw cannot be gone on with
        self.size: int | None = None

    def begin(self, size: int) -> None:
        """Set how many places there are in this window; one that has begun is left as it is."""
        if self.size is not None:
            return
        # Of the frames before a restart no more are known than have stayed.
        self.size = min(size, len(self._lots)) if self.among > len(self._lots) else size
        del self._lots[self.size :]

    def draw(self) -> Draw:
        """Let the next frame draw, without taking a place."""
        self.among += 1
        self._look_ahead(1)
        return Draw(self._coming.popleft(), self.among)

    def soon(self, frames: int) -> bool:
        """Return whether one of the next `frames` frames would take a place as things stand; all draw if they stay."""
        self._look_ahead(frames)
        return any(map(self._takes, islice(self._coming, frames)))

    def enter(self, draw: Draw) -> Draw | None:
        """Give the frame a place if its lot is low enough, and return whose; None if it is not."""
        size = self.size or 0
        if not self._takes(draw.lot):
            return None
        insort(self._lots, draw.lot)
        ousts = self._lots.pop() if len(self._lots) > size else None
        return Draw(draw.lot, draw.among, ousts)

    def _takes(self, lot: float) -> bool:
        size = self.size or 0
        return size > 0 and (len(self._lots) < size or lot < self._lots[-1])

    def _look_ahead(self, frames: int) -> None:
        while len(self._coming) < frames:
            self._coming.append(self._rng.random())

    def close(self) -> None:
        """End the window; the next one begins with no frame."""
        self._lots.clear()
        self.among = 0
        self.size = None
