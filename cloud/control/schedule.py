"""When a camera's next round starts, free of I/O: counts and times go in, a trigger comes out.

manual      an operator requested it
new-frames  enough hard frames arrived since the last round
age         some frames wait, and the first has waited long
drift       the mean loss has risen far above what it was when the student in use was published
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from culling.cloud.settings import ScheduleSettings

Trigger = Literal["manual", "new-frames", "age", "drift"]


@dataclass(frozen=True)
class CameraStats:
    """What decides: frames `waiting` for a round and when the oldest of them came (seconds since the epoch), the mean
    loss now and at the last publish, whether a round was requested (`asked`), whether only such rounds start (`held`),
    and whether enough frames are held out to judge one by (`judged`).
    """

    camera: str
    waiting: int
    oldest_waiting: float | None = None
    loss_mean: float | None = None
    loss_at_publish: float | None = None
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


def _drifted(stats: CameraStats, share: float) -> bool:
    if stats.loss_mean is None or stats.loss_at_publish is None:
        return False
    return stats.loss_mean - stats.loss_at_publish > share * max(abs(stats.loss_at_publish), 1e-6)
