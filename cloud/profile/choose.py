"""Which profile a camera has, and which each hour of its day: the cheapest that certainly loses next to nothing.

Of all audits the three cheapest are left (Chameleon's best few, which alone are looked at again). Each part of the day,
parts as the gate has them, has the cheapest of these that loses no more there by its own audits; certainty is asked of
the whole, since a quarter of the audits would hardly ever have it.

A loss is only seen of objects that the student finds. One that finds nothing loses nothing at any rate, and just where
it fails rounds need frames to choose from; so nothing is spared a student that is not certainly right enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.archive.day import BAND_FRAMES, HOURS, parts_of_day
from culling.cloud.profile.options import OPTIONS
from culling.cloud.profile.score import EVERY, Audit, Scored, Trial, lacks

BEST = 3

RIGHT = 0.5
"""AP50 that the student must have where it looks at each frame, certainly on the whole and by the best estimate in a
part of the day. No more of the objects is found than its AP50 says, or hardly: from here on the loss is one of most of
what there is, and not of the rest that happens to be easy."""

PARTS = 4
"""Parts of the day, at most: of fewer audits a part's own figure would be chance."""


@dataclass(frozen=True)
class Choice:
    """The cheapest profile that certainly loses little, `EVERY` without one; the profile of each hour (UTC), `(24,)`;
    and `why`.
    """

    whole: Scored
    hours: tuple[Scored, ...]
    why: str


def choose(audits: Sequence[Audit], tolerance: float, least: int) -> Choice | None:
    """Return what labelled audits say, in any order; None where they are fewer than `least`, or of few moments.

    At most `tolerance` of AP50 may be lost.
    """
    if lacks([audit.block for audit in audits], least) is not None:
        return None
    trial, by = Trial(audits), f"by {len(audits)} audits"
    if (wrong := _wrong(trial)) is not None:
        return Choice(EVERY, (EVERY,) * HOURS, f"{wrong}, {by}")
    best = _best(trial, tolerance)
    if not best:
        return Choice(EVERY, (EVERY,) * HOURS, f"none certainly loses less than {tolerance:g}, {by}")
    return Choice(best[0], _hours(audits, best, tolerance), by)


def _wrong(trial: Trial) -> str | None:
    """Return why nothing is spared this student, whatever it would lose; None where it is right enough."""
    right = trial.right
    if math.isnan(right.ap50):
        return "no object was there to be lost"
    if right.low >= RIGHT:
        return None
    return f"what is lost means little: the student's own AP50 is {right.ap50:.2f}, not certainly {RIGHT:g}"


def _best(trial: Trial, tolerance: float) -> list[Scored]:
    """Return the cheapest profiles that certainly lose little, the cheapest first: resamples are drawn for few."""
    worth = [one for one in map(trial.look, OPTIONS) if one.change >= -tolerance and one.share < 1.0]
    other = {(one.share, one.change): one for one in reversed(worth)}  # of those that spare the same frames, the first
    best: list[Scored] = []
    for one in sorted(other.values(), key=lambda one: (one.share, -one.change)):
        if len(best) < BEST and (scored := trial.score(one.profile)).low >= -tolerance:
            best.append(scored)
    return best


def _hours(audits: Sequence[Audit], best: Sequence[Scored], tolerance: float) -> tuple[Scored, ...]:
    found = []
    parts = parts_of_day([audit.hour for audit in audits], max(BAND_FRAMES, -(-len(audits) // PARTS)))
    for part in parts:
        trial = Trial([audit for audit in audits if part.start <= audit.hour < part.end])
        fair = (one for one in best if len(parts) == 1 or trial.look(one.profile).change >= -tolerance)
        useless = trial.right.ap50 < RIGHT  # not where there is no object, as by night in many a yard
        found += [EVERY if useless else next(fair, EVERY)] * (part.end - part.start)
    return tuple(found)
