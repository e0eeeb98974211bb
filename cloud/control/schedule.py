"""When a camera's next round starts, free of I/O: counts and times go in, a trigger comes out.

manual      an operator requested it
new-frames  enough hard frames arrived since the last round
age         some frames wait, and the first has waited long
drift       the student in use is worse than it was at first, by more than the interval of what is measured
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from culling.cloud.evaluation.accuracy import Estimate, is_worse
from culling.cloud.settings import ScheduleSettings

Trigger = Literal["manual", "new-frames", "age", "drift"]


@dataclass(frozen=True)
class CameraStats:
    """What decides: frames `waiting` for a round and when the oldest of them came (seconds since the epoch), the AP50
    measured of the student in use now and at first, whether a round was requested (`asked`), whether only such rounds
    start (`held`), and whether enough frames are held out to judge one by (`judged`).
    """

    camera: str
    waiting: int
    oldest_waiting: float | None = None
    accuracy: Estimate | None = None
    accuracy_at_first: Estimate | None = None
    asked: bool = False
    held: bool = False
    judged: bool = True


def due(stats: CameraStats, now: float, settings: ScheduleSettings) -> Trigger | None:
    """Return what a camera's round would start for at `now`, seconds since the epoch, or None when none is due."""
    if stats.asked:
        return "manual"
    if settings.hold or stats.held or not (stats.waiting and stats.judged):
        return None
    if stats.waiting >= settings.min_new:
        return "new-frames"
    if stats.waiting < settings.least:
        return None
    if stats.oldest_waiting is not None and now - stats.oldest_waiting >= settings.max_age_s:
        return "age"
    return "drift" if _drifted(stats, settings.drift) else None


def choose(
    cameras: Iterable[CameraStats], now: float, settings: ScheduleSettings
) -> tuple[CameraStats, Trigger] | None:
    """Return the camera whose round is to start next: requested rounds first, then the longest wait."""
    found = [(stats, trigger) for stats in cameras if (trigger := due(stats, now, settings)) is not None]
    return min(found, key=_rank, default=None)


def _rank(item: tuple[CameraStats, Trigger]) -> tuple[bool, float, str]:
    stats, trigger = item
    return trigger != "manual", stats.oldest_waiting or 0.0, stats.camera


def _drifted(stats: CameraStats, margin: float) -> bool:
    if stats.accuracy is None or stats.accuracy_at_first is None:
        return False
    return is_worse(stats.accuracy, stats.accuracy_at_first, margin)
