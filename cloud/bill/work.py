"""What a stage of a round computes: how many frames a student looked at, or learnt from, at which input size."""

from __future__ import annotations

import math
from collections import Counter

from culling.cloud.bill.cost import Size, StudentCost


class Work:
    """Counts the work of one stage after the other. Used from one thread."""

    def __init__(self) -> None:
        self._looked: Counter[Size] = Counter()
        self._learnt: Counter[Size] = Counter()

    def look(self, size: Size, frames: int = 1) -> None:
        """Count frames that a student looked at."""
        self._looked[size] += frames

    def learn(self, size: Size, frames: int) -> None:
        """Count frames that a student learnt from, once each."""
        self._learnt[size] += frames

    def take(self, cost: StudentCost | None) -> float:
        """Return the GFLOPs of all that was counted since the last call; nan if what a pass costs is not known."""
        looked, learnt = self._looked, self._learnt
        self._looked, self._learnt = Counter(), Counter()
        if not looked and not learnt:
            return 0.0
        if cost is None:
            return math.nan
        seen = sum(cost.look.gflops(size) * frames for size, frames in looked.items())
        return seen + sum(cost.learn.gflops(size) * frames for size, frames in learnt.items())
