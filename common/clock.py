"""Time as a stage sees it: passed in, so that a test can stop it, step it or turn it back."""

from __future__ import annotations

import time
from typing import Protocol

DAY_S = 86_400.0


class Clock(Protocol):
    """Two readings of time: one to tell people and peers, one to measure with."""

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch; it may step either way."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; it never steps."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()
