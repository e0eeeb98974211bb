"""The bills as series: what every camera costs, counted minute by minute, beside full training on the same frames."""

from __future__ import annotations

import math

from culling.cloud.bill.account import statements
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.common.clock import Clock
from culling.common.metrics import Metrics

LATE_MINUTES = 1
"""A label or a round is written a moment after the time that it has; a minute that ended that long ago has all."""


class CostSeries:
    """Counts from the minute on in which it is made. Used from one thread."""

    def __init__(self, index: Index, settings: CloudSettings, metrics: Metrics, clock: Clock) -> None:
        self._index = index
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._counted = int(clock.now() // 60)

    def advance(self) -> None:
        """Count what was spent in the minutes that are over and were not counted yet."""
        until = int(self._clock.now() // 60) - LATE_MINUTES
        if until <= self._counted:
            return
        told = statements(self._index, self._settings, 60.0 * self._counted, 60.0 * until)
        self._counted = until
        for camera, one in told.items():
            for part, cost in one.bill.parts.items():
                self._count("cost_gflops", cost.gflops, camera=camera, part=part)
                self._count("cost_seconds", cost.seconds, camera=camera, part=part)
            if math.isfinite(one.bill.total.gflops):  # else a ratio of both would leave part of the bill out
                self._count("full_training_gflops", one.full.gflops, camera=camera)

    def _count(self, name: str, amount: float, **labels: str) -> None:
        if math.isfinite(amount):
            self._metrics.count(name, amount, **labels)
