"""What a camera may still send: frames per window, frames per day, bytes per day. No I/O; time is passed in."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from culling.common.clock import DAY_S

ASSUMED_BYTES = 256 * 1024
"""The assumed size of a JPEG until the first real one is known."""
UNLIMITED = 2**62
"""Stands for no limit: more frames than ever come, and still an integer to compute with."""


@dataclass(frozen=True)
class Spent:
    """What left on one UTC day, counted from the epoch: frames, and their bytes of JPEG."""

    day: int = -1
    frames: int = 0
    bytes: int = 0


NOTHING = Spent()


class Budget:
    """Counts the frames that leave against the limits; a window lasts until `close`.

    A limit per day is spread over the windows left in that UTC day, so that a busy midnight does not starve noon;
    what a quiet window leaves over goes to later ones. Bytes count as sizes become known, and a frame on its way
    counts as the largest seen: a day can end over its limit only by what its last frames weighed above any before.
    `spent` is what left before this start.
    """

    def __init__(
        self,
        window_s: float,
        frames_per_window: int = UNLIMITED,
        frames_per_day: int | None = None,
        bytes_per_day: int | None = None,
        spent: Spent = NOTHING,
    ) -> None:
        self.window_s = window_s
        self.now = self.start = math.nan
        self.limit = 0
        self.used = 0
        self._frames_per_window = frames_per_window
        self._frames_per_day = UNLIMITED if frames_per_day is None else frames_per_day
        self._bytes_per_day = UNLIMITED if bytes_per_day is None else bytes_per_day
        self._last_at = math.nan
        self._day, self._frames_today, self._bytes_today = spent.day, spent.frames, spent.bytes
        self._on_the_way = 0
        self._largest = 0
        self._sizes: deque[int] = deque()

    def advance(self, at: float) -> None:
        """Move time forward to `at`, seconds since the epoch; a step backwards leaves it where it is."""
        first = math.isnan(self.now)
        self.now = at if first else self.now + max(0.0, at - self._last_at)
        self._last_at = at
        while self._sizes:
            self._weigh(self._sizes.popleft())
        if (day := int(self.now // DAY_S)) != self._day:
            self._day = day
            self._frames_today = self._bytes_today = self._on_the_way = 0
        if first:
            self._open(at)

    @property
    def elapsed(self) -> float:
        """Seconds since the window opened."""
        return self.now - self.start

    @property
    def over(self) -> bool:
        """Whether the window has lasted its full length."""
        return self.elapsed >= self.window_s

    @property
    def room(self) -> int:
        """How many frames may still leave, as things stand."""
        return max(0, min(self.limit - self.used, self._left_today()))

    def spend(self, frames: int = 1) -> None:
        """Count `frames` as leaving now."""
        self.used += frames
        self._frames_today += frames
        self._on_the_way += frames

    def note_bytes(self, size: int) -> None:
        """Note the JPEG size of one frame that left, 0 if it was lost. Safe from any thread."""
        self._sizes.append(size)

    def allow(self, frames_per_window: int) -> None:
        """Set how many frames may leave per window, from this one on."""
        self._frames_per_window = frames_per_window
        if not math.isnan(self.start):
            self.limit = self._share(self.start)

    def cut(self) -> None:
        """Cut the window's limit to the part of its length that has passed."""
        self.limit = math.floor(self.limit * min(1.0, self.elapsed / self.window_s))

    def close(self) -> None:
        """End the window and open the next, which owes what this one spent above a limit that was cut."""
        owed = max(0, self.used - self.limit)
        # A window that was closed a little late does not delay the next ones.
        self._open(self.now - self.elapsed % self.window_s if self.over else self.now)
        self.used = owed

    def _open(self, start: float) -> None:
        self.start = start
        self.used = 0
        self.limit = self._share(start)

    def _share(self, start: float) -> int:
        windows_left = math.ceil(((self._day + 1) * DAY_S - start) / self.window_s)
        return min(self._frames_per_window, self.used - (-self._left_today() // windows_left))

    def _left_today(self) -> int:
        by_bytes = (self._bytes_per_day - self._bytes_today) // (self._largest or ASSUMED_BYTES) - self._on_the_way
        return max(0, min(self._frames_per_day - self._frames_today, by_bytes))

    def _weigh(self, size: int) -> None:
        self._on_the_way = max(0, self._on_the_way - 1)
        self._bytes_today += size
        self._largest = max(self._largest, size)
