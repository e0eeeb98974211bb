"""The bill of a camera over a span of time beside full training: as figures under stable names, and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from culling.cloud.bill.cost import EDGE, PARTS, Bill, Cost

PREFIXES = ("G", "T", "P", "E")

Row = dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """What a camera cost between two times, in seconds since the epoch.

    `passes` counts the frames of a part where it has any, `frames` those that came to the student, and `full` is what
    training on all of them would have cost.
    """

    since: float
    until: float
    bill: Bill
    passes: dict[str, int]
    frames: int
    full: Cost

    def row(self) -> Row:
        """Return every figure for JSON: None for what is not known, seconds without those of the edge, that no edge
        tells, and ratios as full training over this bill.
        """
        total, incremental = self.bill.total, self.bill.incremental
        parts = {
            part: {"passes": self.passes.get(part), **_cost(self.bill.parts[part])}
            for part in PARTS
            if part in self.bill.parts
        }
        return {
            "since": self.since,
            "until": self.until,
            "parts": parts,
            "gflops": _known(total.gflops),
            "seconds": _known(incremental.seconds),
            "full": {"frames": self.frames, **_cost(self.full)},
            "ratio": self._over(total),
            "ratio_incremental": self._over(incremental),
            "told": self.told(),
        }

    def told(self) -> str:
        """Return it in one line: what was spent, and which fraction of full training that is."""
        total, incremental = self.bill.total, self.bill.incremental
        edge = self.bill.parts.get(EDGE, Cost()).gflops
        if math.isnan(total.gflops) and math.isnan(incremental.gflops):
            return "not known before the next round has counted what a pass of these models costs"
        spent = f"{flops(total.gflops)}: edge {flops(edge)}, cloud {flops(incremental.gflops)}"
        whole, without = self._over(total), self._over(incremental)
        ratios = [] if whole is None else [f"1/{_plain(whole)} of full training"]
        if without is not None:
            of = "" if ratios else " of full training"
            ratios.append(f"1/{_plain(without)}{of} without the edge's passes")
        return "; ".join([spent, ", ".join(ratios)]) if ratios else spent

    def _over(self, spent: Cost) -> float | None:
        """Return how many times as much full training costs; None where one is not known, or nothing was spent."""
        if not self.frames or not spent.gflops:
            return None
        return _known(self.full.over(spent).gflops)


def flops(gflops: float) -> str:
    """Return a number of GFLOPs as a person reads it."""
    if math.isnan(gflops):
        return "not known"
    step = 0 if gflops < 1 else min(len(PREFIXES) - 1, int(math.log10(gflops) // 3))
    return f"{_plain(gflops / 1000**step)} {PREFIXES[step]}FLOP"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cost(cost: Cost) -> Row:
    return {"gflops": _known(cost.gflops), "seconds": _known(cost.seconds)}


def _known(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
