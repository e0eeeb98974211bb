"""Which of the cameras that are due has its round first, free of I/O.

1. One whose round an operator requested, the longest wait first.
2. One whose oldest labelled frame has waited for `schedule.max_age_s`, the longest wait first. From then on each other
   camera goes before it once at most, so that none starves, however little its rounds promise.
3. The one whose round promises most: AP50 that it is expected to gain, a second that it takes.

The gain is that of the camera's last round, or what its student fell by since, if that is more; for a student that no
round has taught anything it is `FIRST_GAIN`. It is never more than the student's measured AP50 leaves room for, nor
less than `LEAST_GAIN`: what a round is worth changes with what the camera sees, and only a round tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from culling.cloud.control.steering.schedule import CameraStats, Trigger, due
from culling.cloud.settings import ScheduleSettings
from culling.cloud.store.rounds import LastRound

FIRST_GAIN = 0.1
"""AP50; a base student knows nothing of the camera, and its first rounds gain most."""

LEAST_GAIN = 0.005

Due = tuple[CameraStats, Trigger]


def all_due(cameras: Iterable[CameraStats], now: float, settings: ScheduleSettings) -> list[Due]:
    """Return the cameras for which a round is due at `now`, seconds since the epoch, and what starts each."""
    return [(stats, trigger) for stats in cameras if (trigger := due(stats, now, settings)) is not None]


def choose(
    found: Iterable[Due], now: float, settings: ScheduleSettings, last: Mapping[str, LastRound] | None = None
) -> Due | None:
    """Return the camera that goes first of those that are due; `last` are the last rounds of those that had one."""
    last = last or {}
    typical = max(1.0, median(one.seconds for one in last.values())) if last else 1.0

    def rank(item: Due) -> tuple[int, float, float, str]:
        stats, trigger = item
        came = now if stats.oldest_waiting is None else stats.oldest_waiting
        if trigger == "manual":
            return 0, stats.oldest_waiting or 0.0, 0.0, stats.camera
        if now - came >= settings.max_age_s:
            return 1, came, 0.0, stats.camera
        return 2, -promise(stats, last.get(stats.camera), typical), came, stats.camera

    return min(found, key=rank, default=None)


def promise(stats: CameraStats, last: LastRound | None, typical: float) -> float:
    """Return the AP50 a second that a camera's round is expected to gain; `typical` is what others took, in seconds."""
    gained = FIRST_GAIN if stats.new or last is None else last.gained
    room = 1.0 if stats.right is None else 1.0 - stats.right
    gain = max(LEAST_GAIN, min(room, max(gained, stats.fell)))
    return gain / (typical if last is None else max(1.0, last.seconds))
