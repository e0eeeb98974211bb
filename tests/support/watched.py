"""Metrics that a test can wait on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from culling.common.metrics import Metrics


class WatchedMetrics(Metrics):
    """The edge's real metrics; `wait_for` looks again whenever one has changed."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry(), "edge")
        self._changed = threading.Condition()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        super().count(name, amount, **labels)
        with self._changed:
            self._changed.notify_all()

    def set(self, name: str, value: float, **labels: str) -> None:
        super().set(name, value, **labels)
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10) -> bool:
        """Wait until `condition` holds; return whether it did in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)
