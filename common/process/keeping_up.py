"""Whether a student keeps up with its camera: of the frames that came to it, how many it took, by two looks.

Everything that shows it uses this rule. A frame came to the student when it was to be looked at: those beyond `max_fps`
and those of a frozen picture were not. It was missed when a newer one took its place (`newer`), because the student was
busy. A frame that shows nothing new (`unchanged`), or that is more than its profile looks at (`thinned`), was taken:
what was found before stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from culling.common.wire.messages import CameraState

ENOUGH = 0.8
"""The share of the frames that a student has to take to keep up; the alerts CullingStudentTooSlow and
CullingCameraHardlyLookedAt go by the same."""


@dataclass(frozen=True)
class Look:
    """A camera's counters `at` some time, in seconds: frames that its student took, and that it missed."""

    at: float
    taken: float
    missed: float


@dataclass(frozen=True)
class KeepingUp:
    """Frames a second: those that came to a student, and those of them that it took."""

    taken: float
    came: float

    @property
    def enough(self) -> bool:
        """Whether it keeps up."""
        return self.taken >= ENOUGH * self.came

    @property
    def hint(self) -> str:
        """What to do, "" when there is nothing to."""
        if self.enough:
            return ""
        return (
            "the student is too slow for its cameras on this machine: "
            f"set the camera's max_fps to {_plain(self.taken)}, or have the cloud make a lighter one: "
            "student.int8 = true (8 bits, without a GPU), or a smaller student.long_side"
        )

    @property
    def rates(self) -> str:
        """Both rates in words."""
        return f"{_plain(self.taken)} of {_plain(self.came)} frames/s"

    def __str__(self) -> str:
        return f"keeping up: {self.rates}"


def look(at: float, inferred: float, dropped: Mapping[str, float]) -> Look:
    """Return a camera's counters at a time; `dropped` counts its dropped frames by reason."""
    stood = dropped.get("unchanged", 0) + dropped.get("thinned", 0)
    return Look(at, inferred + stood, dropped.get("newer", 0))


def look_at(state: CameraState, at: float) -> Look:
    """Return the counters that an edge told of a camera, `at` the time at which it did."""
    return look(at, state.inferred, state.dropped)


def keeping_up(before: Look, after: Look) -> KeepingUp | None:
    """Return how a student kept up between two looks.

    None when no frame came, no time passed, or the agent was restarted in between.
    """
    seconds, taken, missed = after.at - before.at, after.taken - before.taken, after.missed - before.missed
    if seconds <= 0 or taken < 0 or missed < 0 or taken + missed == 0:
        return None
    return KeepingUp(taken / seconds, (taken + missed) / seconds)


def _plain(rate: float) -> str:
    return f"{round(rate, 1):g}" if rate >= 0.1 else f"{rate:.2g}"
