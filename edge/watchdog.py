"""Which thread has gone silent: each one beats while it works, and `stuck` names those that have not for too long.

No I/O, no thread and no clock of its own: the caller decides what becomes of a stuck thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class _Watched:
    limit_s: float
    last: float


class Watchdog:
    """Knows when each watched thread last beat. Safe from all threads; times are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}

    def watch(self, name: str, limit_s: float, now: float) -> None:
        """Expect `name` to beat at least every `limit_s` seconds from `now` on; another call replaces the limit."""
        if limit_s <= 0:
            raise ValueError(f"limit_s of {name}: expected more than 0, not {limit_s}")
        with self._lock:
            self._watched[name] = _Watched(limit_s, now)

    def beat(self, name: str, now: float) -> None:
        """Note that `name` is alive. Raises `KeyError` if it is not watched."""
        with self._lock:
            watched = self._watched[name]
            watched.last = max(watched.last, now)

    def release(self, name: str) -> None:
        """Stop watching `name`: it has ended, or waits for work."""
        with self._lock:
            self._watched.pop(name, None)

    def stuck(self, now: float) -> list[str]:
        """Return the names that have been silent for longer than their limit, longest overdue first."""
        with self._lock:
            overdue = {name: now - one.last - one.limit_s for name, one in self._watched.items()}
        return sorted((name for name, late in overdue.items() if late > 0), key=lambda name: -overdue[name])
