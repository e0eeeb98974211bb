"""The profiles that a camera may have, how long an answer stands by each, and what share of frames is looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from culling.common.wire.echo import AGES, Echo
from culling.common.wire.profile import Profile

FULL = Profile(echo=True)
"""Every frame is looked at, and audits tell what would have stood."""

RATES = (*(1 / age for age in AGES[:-1]), 1 / AGES[-1])
"""Looks a second, at most; an echo tells of an answer of each of these ages."""

DIFFERENCES = (0, 4, 8, 16, 32)
"""Grey levels of a cell of the thumbnail, from what noise leaves alone to what a car changes."""

OPTIONS = tuple(
    Profile(rate, difference, echo=True)
    for rate in RATES
    for difference in DIFFERENCES
    if not difference or rate > RATES[-1]  # at the lowest rate nothing stands longer for being alike
)
"""All but `FULL`. A difference without a rate is not among them: a camera of some fps hardly looks more at the highest.
"""


def stands(profile: Profile, echo: Echo) -> float:
    """Return for how many seconds an answer stood at the time of an audit, by a profile: until it is due, and then for
    as long as no cell of the picture had changed by the profile's difference. At least the time between two frames.
    """
    alike = 0.0
    for age, change in zip(AGES, echo.changes, strict=True):
        if change >= profile.difference:
            break
        alike = age
    due = 1 / profile.rate if profile.rate else 0.0
    return max(1 / echo.rate, due, alike)


def shares(profile: Profile, echo: Echo) -> NDArray[np.float64]:
    """Return how likely the answer that stands for an audit is of each age, `(1 + AGES,)`, that of its own look first.

    They add up to 1. Moments between two ages count as the older one. The first is the share of frames looked at.
    """
    longest = stands(profile, echo)
    ends = np.array([1 / echo.rate, *(max(age, 1 / echo.rate) for age in AGES)])
    within = np.minimum(ends, longest)
    within[-1] = longest
    return np.asarray(np.diff(within, prepend=0.0) / longest)
