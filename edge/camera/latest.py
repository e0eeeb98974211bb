"""The hand-over from a camera's thread to the main loop: one place, in which a newer frame takes an older one's seat.

Nothing waits here by default: latency stays bounded whatever the student costs, and each frame that nobody took is
returned to be counted. `put_when_free` is the lossless form, for files that are played as fast as they are used.
All cameras of an agent share one condition, so that the loop can sleep until any of them has a frame.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

F = TypeVar("F")


class LatestFrame(Generic[F]):
    """Holds at most one frame. `arrivals` is notified whenever a frame comes, is taken, or nothing more will come."""

    def __init__(self, arrivals: threading.Condition | None = None) -> None:
        self._arrivals = arrivals or threading.Condition()
        self._frame: F | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._frame is not None

    def put(self, frame: F) -> F | None:
        """Hand over a frame; return the one that is lost by it: an older one, or this one after `close`."""
        with self._arrivals:
            if self._closed:
                return frame
            older, self._frame = self._frame, frame
            self._arrivals.notify_all()
            return older

    def put_when_free(self, frame: F) -> F | None:
        """Wait until the frame before was taken, then hand over this one; return it when `close` came instead."""
        with self._arrivals:
            self._arrivals.wait_for(lambda: self._frame is None or self._closed)
            return self.put(frame)

    def take(self) -> F | None:
        """Return the newest frame, once; None when there is none."""
        with self._arrivals:
            frame, self._frame = self._frame, None
            if frame is not None:
                self._arrivals.notify_all()
            return frame

    def close(self) -> F | None:
        """Let nothing more in and wake whoever waits; return the frame that nobody has taken, if there is one."""
        with self._arrivals:
            self._closed = True
            frame, self._frame = self._frame, None
            self._arrivals.notify_all()
            return frame
