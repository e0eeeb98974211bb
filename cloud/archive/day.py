"""The parts of a day that a student is judged by one by one: hours in a row (UTC) with enough to judge by. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BAND_FRAMES = 16
"""Hours are joined until so many frames judge a part of the day."""

HOUR_S = 3600.0
HOURS = 24


@dataclass(frozen=True)
class Part:
    """The hours of the day from `start` to before `end`, UTC."""

    start: int
    end: int

    @property
    def name(self) -> str:
        """What it is called, "18-24 h" for example."""
        return f"{self.start:02d}-{self.end:02d} h"

    def holds(self, hours: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the `hours` `(F,)` lie in it, `(F,)`."""
        at = np.asarray(hours, np.int64)
        return (at >= self.start) & (at < self.end)


def hour_of(captured: float) -> int:
    """Return the hour of the day, UTC, in [0, 24), of a time in seconds since the epoch."""
    return int(captured // HOUR_S) % HOURS


def parts_of_day(hours: Sequence[int], least: int = BAND_FRAMES) -> list[Part]:
    """Return the parts of the day, from midnight on, each of hours enough for `least` of the frames of those `hours`.

    The last may have as many as are left over besides; it is the whole day where there are too few for two.
    """
    ends, filled = [], 0
    for hour, count in enumerate(np.bincount(np.asarray(hours, np.int64), minlength=HOURS)):
        filled += int(count)
        if filled >= least:
            ends.append(hour + 1)
            filled = 0
    ends = [*ends[:-1], HOURS] if ends else [HOURS]
    return [Part(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
