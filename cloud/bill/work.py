"""What a stage of a round computes: the frames that students look at or learn from, each at its own student's price."""

from __future__ import annotations

import math

from culling.cloud.bill.cost import PassCost, Size, StudentCost


class WorkMeter:
    """Adds up the work of one stage after the other, in GFLOPs; that of a student without a price is not known.

    Used from one thread.
    """

    def __init__(self) -> None:
        self._gflops = 0.0

    def look(self, cost: StudentCost | None, size: Size, frames: int = 1) -> None:
        """Count frames that a student of that cost looked at."""
        self._add(None if cost is None else cost.look, size, frames)

    def learn(self, cost: StudentCost | None, size: Size, frames: int) -> None:
        """Count frames that a student of that cost learnt from, once each."""
        self._add(None if cost is None else cost.learn, size, frames)

    def take(self) -> float:
        """Return the GFLOPs of all that was counted since the last call; nan if one of the students has no price."""
        gflops, self._gflops = self._gflops, 0.0
        return gflops

    def _add(self, each: PassCost | None, size: Size, frames: int) -> None:
        if frames:
            self._gflops += math.nan if each is None else each.gflops(size) * frames
