"""The profiles that a camera may have, how long an answer stands by each, and what share of frames is looked at."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from culling.common.wire.echo import AGES, Echo
from culling.common.wire.profile import LONGEST_S, Profile

FULL = Profile(echo=True)
"""Every frame is looked at, and audits tell what would have stood."""

RATES = tuple(1 / age for age in AGES[1:])
"""Looks a second, at most; an echo tells of an answer of each of these ages."""

DIFFERENCES = (0, 4, 8, 12)
"""Grey levels of a cell of the thumbnail, from what noise leaves alone. A frame that differs by 12 is new to the
selector at its default (`selector.duplicate_change`): what may leave for being new must not be spared for being alike.
"""

OPTIONS = tuple(
    Profile(rate, difference, echo=True)
    for rate in RATES
    for difference in DIFFERENCES
    if not difference or rate > RATES[-1]  # at the lowest rate nothing stands longer for being alike
)
"""All but `FULL`. A difference without a rate is not among them: a camera of some fps hardly looks more at the highest.
"""


def stands(profile: Profile, echo: Echo) -> float:
    """Return for how many frames an answer was good around an audit, by a profile, its own frame among them: until a
    look was due, and then for as long as no cell of the picture had changed by the profile's difference.
    """
    due, alike = (echo.rate / profile.rate if profile.rate else 1.0), 1.0
    for frames, change in zip(_frames(echo), echo.changes, strict=True):
        if change >= profile.difference:
            break
        alike = frames + 1.0
    return max(1.0, due, min(alike, LONGEST_S * echo.rate))


def shares(profile: Profile, echo: Echo) -> NDArray[np.float64]:
    """Return how likely the answer that stands for an audit is of each age, `(1 + AGES,)`, that of its own look first.

    They add up to 1: every frame since a look is as likely. One between two ages counts as both, by how near they are.
    """
    good = stands(profile, echo)
    ages, places = np.unique([0, *_frames(echo)], return_index=True)
    past = np.arange(math.ceil(good))
    likely = np.minimum(1.0, good - past) / good
    found = np.zeros(1 + len(AGES))
    for place, only in zip(places, np.eye(len(ages)), strict=True):
        found[place] = likely @ np.interp(past, ages, only)
    return found


def _frames(echo: Echo) -> list[int]:
    """Return how many frames ago the answers of an echo were given: the newest of at least each age."""
    return [max(1, math.ceil(age * echo.rate - 1e-6)) for age in AGES]
