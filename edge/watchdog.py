"""Which thread has gone silent: each one says that it lives, and whoever asks learns who has not for too long.

No I/O, no thread and no clock of its own: what becomes of a stuck thread is for the asker to decide.
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
        """Expect `name` to beat at least every `limit_s` seconds from `now` on; again: with a new limit."""
        if limit_s <= 0:
            raise ValueError(f"limit_s of {name}: expected more than 0, not {limit_s}")
        with self._lock:
            self._watched[name] = _Watched(limit_s, now)

    def beat(self, name: str, now: float) -> None:
        """Note that `name` lives. Raises `KeyError` for one that is not watched."""
        with self._lock:
            watched = self._watched[name]
            watched.last = max(watched.last, now)

    def release(self, name: str) -> None:
        """Expect nothing more of `name`, because it has ended as it should."""
        with self._lock:
            self._watched.pop(name, None)

    def stuck(self, now: float) -> list[str]:
        """Return the names that are silent for longer than their limit, the longest overdue first."""
        with self._lock:
            overdue = {name: now - one.last - one.limit_s for name, one in self._watched.items()}
        return sorted((name for name, late in overdue.items() if late > 0), key=lambda name: -overdue[name])
