"""How many frames of each camera the teacher labels next: no I/O, counts and a time go in, a plan comes out.

judges      held-out and audit frames: what says how good a student is; they go first, up to half of the day's allowance
others      to learn from: what the judges leave of it, as it accrues over the day, the least served camera first
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from culling.common.clock import DAY_S

JUDGES_SHARE = 1 / 2
"""At the defaults a fifth of what comes is held out. An edge that sends nothing but audits must not end learning."""

BURST = 1 / 8
"""The share of a day's allowance that a camera may use at once: what three quiet hours leave over."""


@dataclass(frozen=True)
class Demand:
    """What one camera has without labels, and how many of its frames were labelled since midnight UTC."""

    camera: str
    judges: int
    others: int
    judges_done: int = 0
    others_done: int = 0


@dataclass(frozen=True)
class Helping:
    """So many frames of one camera, of its judges or of the others."""

    camera: str
    judges: bool
    frames: int


def allowed(demand: Demand, per_day: int, now: float) -> tuple[int, int]:
    """Return how many judges and how many others of a camera may be labelled at `now`, seconds since the epoch.

    Together they never exceed `per_day` in a UTC day. The allowance of the others accrues evenly, with a share of
    `BURST` in advance: a busy midnight leaves some for noon, when the best frames of the day may come.
    """
    left = max(0, per_day - demand.judges_done - demand.others_done)
    judges = min(demand.judges, left, max(0, math.ceil(JUDGES_SHARE * per_day) - demand.judges_done))
    theirs = max(0, per_day - demand.judges_done - judges)
    accrued = math.ceil(theirs * min(1.0, now % DAY_S / DAY_S + BURST))
    return judges, min(demand.others, max(0, accrued - demand.others_done))


def share_out(demands: Iterable[Demand], size: int, per_day: int, now: float) -> list[Helping]:
    """Return whose frames make up the next batch of at most `size`: no camera keeps another one waiting.

    Judges of all cameras go before the others. Among equals the camera goes first that had the fewest today.
    """
    waiting = sorted(demands, key=lambda demand: (demand.judges_done + demand.others_done, demand.camera))
    open_to = [(demand.camera, *allowed(demand, per_day, now)) for demand in waiting]
    wanted = [(camera, True, judges) for camera, judges, _ in open_to]
    wanted += [(camera, False, others) for camera, _, others in open_to]
    plan = []
    for camera, judges, frames in wanted:
        if (taken := min(frames, size)) > 0:
            plan.append(Helping(camera, judges, taken))
            size -= taken
    return plan
