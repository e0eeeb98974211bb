"""When a camera's next round starts, free of I/O: counts and times go in, a trigger comes out.

manual      an operator requested it
new-frames  enough frames were labelled since the last round
age         some frames wait, and the first has waited long
drift       the student in use fell, all day or in a part of the day, by more than chance explains
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal

from culling.cloud.control.steering.accuracy import falls, read_measured
from culling.cloud.settings import ScheduleSettings
from culling.cloud.store.desired import DesiredState
from culling.cloud.store.frames import Counts
from culling.cloud.store.roster import CameraRow

Trigger = Literal["manual", "new-frames", "age", "drift"]


@dataclass(frozen=True)
class CameraStats:
    """What decides: labelled frames `waiting` for a round, when the oldest of them came (seconds since the epoch), by
    how much AP50 the student in use `fell` (0 where chance may explain it), whether a round was requested (`asked`),
    whether only such rounds start (`held`), whether enough frames are held out and labelled to judge one by (`judged`),
    whether none has found anything to teach yet (`new`), how many frames the teacher has still to label without which
    one that was requested could only be refused (`lacking`), and how `right` the student in use is by its audits: its
    AP50, None where that is not known.
    """

    camera: str
    waiting: int
    oldest_waiting: float | None = None
    fell: float = 0.0
    asked: bool = False
    held: bool = False
    judged: bool = True
    new: bool = False
    lacking: int = 0
    right: float | None = None


@dataclass(frozen=True)
class Wait:
    """Why no round of a camera is due: `waiting` of `needed` frames are there, the rest is expected `at` a time.

    `at` is seconds since the epoch, None where no pace is known or no number of frames would do; `why` says so then.
    """

    waiting: int
    needed: int
    at: float | None = None
    why: str = ""

    def told(self, zone: tzinfo | None = None) -> str:
        """Return it as a person reads it, the time in `zone`: that of this machine, if none is given."""
        if self.why:
            return self.why
        about = "" if self.at is None else f", about {datetime.fromtimestamp(self.at, zone):%H:%M}"
        return f"waits for {self.waiting} of {self.needed} labelled frames{about}"


def camera_stats(
    row: CameraRow,
    counts: Counts,
    desired: DesiredState,
    least_judges: int,
    new: bool,
    asked: bool = False,
    labels: bool = True,
    missing: int = 0,
) -> CameraStats:
    """Return what decides for a camera, from what the index says of it; without `labels` the teacher labels nothing,
    and nothing is worth waiting for. `missing` are frames that its pool lacks since its classes were changed.
    """
    judged, measured = counts.held_out >= least_judges, read_measured(row)
    lacking = 0
    if labels:
        lacking = counts.asking_judges if not judged else counts.asking_others if new and not counts.waiting else 0
        lacking = lacking or min(missing, counts.asking_others)
    return CameraStats(
        row.name,
        counts.waiting,
        counts.oldest_waiting,
        max((fall.size for fall in falls(row)), default=0.0),
        asked,
        desired.held or desired.pinned is not None,
        judged,
        new,
        lacking,
        None if measured is None or measured.now.ap50 is None else measured.now.ap50.value,
    )


def due(stats: CameraStats, now: float, settings: ScheduleSettings) -> Trigger | None:
    """Return what a camera's round would start for at `now`, seconds since the epoch, or None when none is due."""
    if stats.asked:
        return None if stats.lacking else "manual"
    if settings.hold or stats.held or not (stats.waiting and stats.judged):
        return None
    if stats.waiting >= needed(stats, settings):
        return "new-frames"
    if stats.waiting < settings.least:
        return None
    if stats.oldest_waiting is not None and now - stats.oldest_waiting >= settings.max_age_s:
        return "age"
    # A student that got worse stays so until a round helps: without a pause, one that does not help follows another.
    enough = stats.waiting >= min(settings.first, settings.min_new)
    return "drift" if enough and stats.fell > settings.drift else None


def needed(stats: CameraStats, settings: ScheduleSettings) -> int:
    """Return how many new frames start a camera's next round."""
    return min(settings.first, settings.min_new) if stats.new else settings.min_new


def expect(stats: CameraStats, now: float, settings: ScheduleSettings) -> Wait | None:
    """Return what a camera's next round waits for, None when one is due.

    The pace is that since the oldest frame that waits, so that a camera that falls silent is expected ever later.
    """
    if due(stats, now, settings) is not None:
        return None
    wanted = needed(stats, settings)
    if stats.asked:
        told = f"a round was requested, and waits for the teacher to label {stats.lacking} frames"
        return Wait(stats.waiting, wanted, why=told)
    if settings.hold or stats.held:
        return Wait(stats.waiting, wanted, why="rounds are on hold")
    if stats.waiting >= wanted:
        return Wait(stats.waiting, wanted, why="waits for labelled held-out frames to judge by")
    if stats.oldest_waiting is None or stats.waiting < 2:
        return Wait(stats.waiting, wanted)
    pace = max(now - stats.oldest_waiting, 1.0) / (stats.waiting - 1)
    full = now + (wanted - stats.waiting) * pace
    old = max(stats.oldest_waiting + settings.max_age_s, now + (settings.least - stats.waiting) * pace)
    return Wait(stats.waiting, wanted, max(now, min(full, old)))
