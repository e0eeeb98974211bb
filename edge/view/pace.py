"""How each camera's student keeps up while somebody looks: by the rule of `keeping_up.py`, over the last seconds."""

from __future__ import annotations

import threading
from collections import deque

from culling.common.process.keeping_up import Look, keeping_up, look

SPAN_S = 10.0
LEAST_S = 2.0
"""Over less, a frame more or less would be another rate."""


class Pace:
    """What was counted of each camera at each time at which somebody asked; safe from any thread."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[Look]] = {}
        self._asking = threading.Lock()

    def rates(self, camera: str, inferred: float, dropped: dict[str, float], at: float) -> str:
        """Return both rates in words, as `culling edge status` does; "" until there is something to tell.

        `inferred` counts frames since the agent's start, `dropped` those that were dropped, by reason; `at` is a
        monotonic time, in seconds.
        """
        now = look(at, inferred, dropped)
        with self._asking:
            looks = self._looks.setdefault(camera, deque())
            looks.append(now)
            while looks[0].at < at - SPAN_S:
                looks.popleft()
            first = looks[0]
        found = keeping_up(first, now) if at - first.at >= LEAST_S else None
        return found.rates if found else ""
