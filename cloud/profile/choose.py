"""Which profile a camera has, and which each hour of its day: the cheapest that certainly loses next to nothing.

Of all audits the three cheapest are left (Chameleon's best few, which alone are looked at again). Each part of the day,
parts as the gate has them, has the cheapest of these that loses no more there by its own audits; certainty is asked of
the whole, since a quarter of the audits would hardly ever have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.archive.day import BAND_FRAMES, HOURS, parts_of_day
from culling.cloud.profile.options import OPTIONS
from culling.cloud.profile.score import EVERY, Audit, Scored, Trial

BEST = 3

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
    trial = Trial(audits)
    if not trial.enough(least):
        return None
    best = _best(trial, tolerance)
    if not best:
        return Choice(EVERY, (EVERY,) * HOURS, f"none certainly loses less than {tolerance:g}, by {len(audits)} audits")
    return Choice(best[0], _hours(audits, best, tolerance), f"by {len(audits)} audits")


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
        found += [next(fair, EVERY)] * (part.end - part.start)
    return tuple(found)
