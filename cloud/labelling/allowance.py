"""How many frames of each camera the teacher labels next: no I/O, counts and a time go in, a plan comes out.

judges      held-out and audit frames: what says how good a student is; half of the allowance is theirs
others      to learn from: the other half

The allowance of a day accrues evenly, and what one of them leaves is for the other. So a camera that sends more than it
may have labelled is labelled at all hours alike, and neither keeps the other waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from culling.common.clock import DAY_S

JUDGES_SHARE = 1 / 2
"""At the defaults a fifth of what comes is held out. An edge that sends nothing but audits must not end learning, and a
teacher slower than what comes neither: of a batch, too, they take half at most while others wait."""

BURST = 1 / 8
"""The share of their allowance that the others may use at once: what three quiet hours leave over."""


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

    Together they never exceed `per_day` in a UTC day. It accrues evenly: a busy midnight leaves some for noon, when the
    best frames of the day may come. Only the others get some in advance, `BURST`: with it the last hours of every day
    would be without a judge.
    """
    day = now % DAY_S / DAY_S
    done = demand.judges_done + demand.others_done
    theirs = min(math.ceil(JUDGES_SHARE * per_day * day) - demand.judges_done, per_day - done)
    sure = min(demand.judges, max(0, theirs))
    ahead = JUDGES_SHARE * day + (1.0 - JUDGES_SHARE) * min(1.0, day + BURST)
    others = min(demand.others, max(0, math.ceil(per_day * ahead) - done - sure))
    left = max(0, math.ceil(per_day * day) - done - sure - others)
    return sure + min(demand.judges - sure, left), others


def share_out(demands: Iterable[Demand], size: int, per_day: int, now: float) -> list[Helping]:
    """Return whose frames make up the next batch of at most `size`: no camera keeps another one waiting.

    Judges of all cameras go before the others, in half of the batch or where the others leave room. Among equals the
    camera goes first that had the fewest today.
    """
    waiting = sorted(demands, key=lambda demand: (demand.judges_done + demand.others_done, demand.camera))
    open_to = [(demand.camera, *allowed(demand, per_day, now)) for demand in waiting]
    room = max(math.ceil(JUDGES_SHARE * size), size - sum(others for _, _, others in open_to))
    judging = _fill([(camera, judges) for camera, judges, _ in open_to], room, judges=True)
    room = size - sum(helping.frames for helping in judging)
    return judging + _fill([(camera, others) for camera, _, others in open_to], room, judges=False)


def _fill(wanted: Iterable[tuple[str, int]], room: int, judges: bool) -> list[Helping]:
    plan = []
    for camera, frames in wanted:
        if (taken := min(frames, room)) > 0:
            plan.append(Helping(camera, judges, taken))
            room -= taken
    return plan
