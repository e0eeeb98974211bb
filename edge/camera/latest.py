"""The hand-over from a camera's thread to the main loop: one place, in which a newer frame replaces an older one.

By default nothing waits here: latency stays bounded however slow the student is, and a frame that was not taken is
returned to be counted. `put_when_free` is the lossless form, for files that are played at full speed.
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
        """Hand over a frame; return the frame that this loses: an older one, or this one after `close`."""
        with self._arrivals:
            if self._closed:
                return frame
            older, self._frame = self._frame, frame
            self._arrivals.notify_all()
            return older

    def put_when_free(self, frame: F) -> F | None:
        """Wait until the previous frame was taken, then hand over this one; return it if `close` came instead."""
        with self._arrivals:
            self._arrivals.wait_for(lambda: self._frame is None or self._closed)
            return self.put(frame)

    def take(self) -> F | None:
        """Remove and return the newest frame; None if there is none."""
        with self._arrivals:
            frame, self._frame = self._frame, None
            if frame is not None:
                self._arrivals.notify_all()
            return frame

    def close(self) -> F | None:
        """Accept no more frames and wake all waiting threads; return the frame that was not taken, if any."""
        with self._arrivals:
            self._closed = True
            frame, self._frame = self._frame, None
            self._arrivals.notify_all()
            return frame
