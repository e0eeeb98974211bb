"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Satisfies `culling.common.clock.Clock`; the wall clock can be stepped apart from the monotonic one."""

    def __init__(self, now: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self._now += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an NTP correction does; the monotonic clock does not notice."""
        self._now += seconds
