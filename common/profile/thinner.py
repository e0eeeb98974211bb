"""So many frames a second, evenly spaced. No I/O and no clock: seconds come in."""

from __future__ import annotations


class Thinner:
    """Lets at most `max_fps` frames a second through, evenly spaced; 0 lets all through."""

    def __init__(self, max_fps: float) -> None:
        self._gap = 1 / max_fps if max_fps else 0.0
        self._due = 0.0

    def wants(self, at: float) -> bool:
        """Return whether the frame at `at` passes; `at` is in seconds and never runs backwards."""
        if not self.due(at):
            return False
        self.take(at)
        return True

    def due(self, at: float) -> bool:
        """Return whether the frame at `at` would pass."""
        return at >= self._due - 1e-6

    def take(self, at: float) -> None:
        """Note that the frame at `at` passes."""
        kept_up = at < self._due + self._gap
        self._due = (self._due if kept_up else at) + self._gap
