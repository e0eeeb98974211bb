"""What keeps the store in bounds and writes down what passed: the minutes, what expired, what was measured, orphans."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict

import structlog

from culling.cloud.archive.zoo import OLDEST_S, Student
from culling.cloud.bill.series import CostSeries
from culling.cloud.control.said import Saying
from culling.cloud.control.steering.accuracy import Measurer
from culling.cloud.control.steering.pace import Pacer
from culling.cloud.control.steering.profile import Profiler
from culling.cloud.evaluation.accuracy import Estimate, Share
from culling.cloud.settings import CloudSettings
from culling.cloud.store.features.features import FeatureStore
from culling.cloud.store.folders import free_bytes
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.history import History
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import AT_ONCE, FrameLifecycle
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.objects.orphans import collect
from culling.cloud.store.people.deeds import Deeds
from culling.cloud.store.registry import ModelFiles, Registry
from culling.cloud.store.retention import forget_records
from culling.cloud.store.roster import CameraRow, Roster
from culling.cloud.store.rounds import Rounds
from culling.common.clock import DAY_S, Clock
from culling.common.metrics import Metrics

log = structlog.get_logger(__name__)

IDLE_S = 2.0
"""Where no camera can be measured, one may be soon."""

UPKEEP_S = 60.0
"""Until the next expiry new frames fit into the share of the quota that it keeps free."""

STEER_S = 10.0
"""A camera that is new, or whose hour has turned, waits no longer for its pace and profile."""

STEERED = ("measured_accuracy", "wrong_records", "pace", "profile_looks")
"""Gauges of one camera after the other, whichever is measured or steered next."""

COLLECT_S = 3600.0
"""What is left over in a bucket costs little, and listing it takes one request for a thousand pictures."""

SHORT_S = 3600.0
"""Where the disk is short, a model's file goes so long after it was written; a command names it by then."""


class Upkeep:
    """Its `steps` are taken in every turn, most of them seldom; used by one thread."""

    def __init__(
        self,
        settings: CloudSettings,
        index: Index,
        frames: FrameStore,
        files: ModelFiles,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._index = index
        self._frames = frames
        self._files = files
        self._metrics = metrics
        self._clock = clock
        self._objects = open_objects(settings.store.objects, settings.data_dir)
        self._lifecycle = FrameLifecycle(index, frames, clock)
        self._features = FeatureStore(index, self._objects)
        self._registry = Registry(index)
        self._roster = Roster(index)
        self._rounds = Rounds(index)
        self._measurer = Measurer(index, frames, settings, clock)
        self._pacer = Pacer(index, settings.pace, metrics, clock)
        self._profiler = Profiler(index, frames, settings, metrics, clock)
        self._history = History(index, {row.name: row.state for row in self._roster.rows() if row.state is not None})
        self._costs = CostSeries(index, settings, metrics, clock)
        self._saying = Saying(index, settings, clock)
        self._minute = int(clock.now() // 60)
        self._next_upkeep = self._next_measure = self._next_steer = 0.0
        self._next_collect = clock.monotonic() + COLLECT_S  # never at a start: it would only hold that up

    @property
    def steps(self) -> tuple[Callable[[], None], ...]:
        """What is to be done in every turn, in order."""
        return self._pass_minute, self._upkeep, self._steer, self._measure_next, self._collect_orphans, self._say

    def _say(self) -> None:
        self._saying.advance()

    def record_minute(self) -> None:
        """Record what the cameras counted in the minute that has passed, as their edges told any ingest."""

        def lately(row: CameraRow) -> bool:
            return row.heard is not None and row.heard // 60 >= self._minute

        latest = {row.name: row.state for row in self._roster.rows() if row.state is not None and lately(row)}
        self._history.record(latest, self._minute)
        self._minute = int(self._clock.now() // 60)
        self._costs.advance()

    def _pass_minute(self) -> None:
        if self._clock.now() // 60 != self._minute:
            self.record_minute()

    def _upkeep(self) -> None:
        if self._clock.monotonic() < self._next_upkeep:
            return
        self._next_upkeep = self._clock.monotonic() + UPKEEP_S
        store, now = self._settings.store, self._clock.now()
        spare = 2 * self._settings.service.reserve_bytes - free_bytes(self._settings.data_dir)  # where windows shrink
        # Models go before frames: one that is out of use is as large as a thousand pictures, and can be made again.
        self._files.prune(self._registry.wanted_files(self._zoo(now, spare)), now - (SHORT_S if spare > 0 else DAY_S))
        people_days = store.people_days or store.records_days
        allowance = store.features_bytes if self._settings.round.distil else 0
        dropped = self._features.trim(allowance, 0 if self._objects.shared else spare)
        for (camera, reason), count in dropped.items():
            self._metrics.count("features_dropped", count, camera=camera, reason=reason)
        room = 0 if self._objects.shared else spare  # pictures in a bucket take none of the disk
        gone = self._lifecycle.expire(store.quota_bytes, store.retention_days, room, people_days)
        for (camera, reason), count in gone.items():
            self._metrics.count("frames_expired", count, camera=camera, reason=reason)
        passed = self._lifecycle.pass_over()
        for (camera, reason), count in passed.items():
            self._metrics.count("frames_passed_over", count, camera=camera, reason=reason)
        if max(sum(gone.values()), sum(passed.values()), sum(dropped.values())) >= AT_ONCE:
            self._next_upkeep = self._clock.monotonic()  # there may be more; requests are answered in between
        unfinished = {str(turn.id) for turn in self._rounds.unfinished()}
        for folder in (self._settings.data_dir / "rounds").glob("*"):
            if folder.name not in unfinished:
                shutil.rmtree(folder, ignore_errors=True)
        forgotten = forget_records(self._index, now - store.records_days * DAY_S)
        forgotten["deeds"] = Deeds(self._index).forget(now - store.audit_days * DAY_S)
        if any(forgotten.values()):
            log.info("records_forgotten", **forgotten)
        self._show_last_rounds()

    def _steer(self) -> None:
        """Begin, turn and end paces and profiles, as the settings, the hour and the cameras are now."""
        if self._clock.monotonic() < self._next_steer:
            return
        self._next_steer = self._clock.monotonic() + STEER_S
        self._pacer.tend()
        self._profiler.tend()
        here = {row.name for row in self._roster.rows() if not row.revoked}
        for name in STEERED:
            self._metrics.keep(name, here)

    def _zoo(self, now: float, spare: int) -> list[Student]:
        """Return the earlier students whose files are kept; none where the disk is short of `spare` bytes."""
        most = self._settings.round.zoo if spare <= 0 else 0
        return [one for each in self._registry.zoo(most, now - OLDEST_S).values() for one in each] if most else []

    def _collect_orphans(self) -> None:
        """Remove features that no row names, once an hour, and settle such frames in a bucket: the one service that
        works on the index does.
        """
        if self._clock.monotonic() < self._next_collect:
            return
        self._next_collect = self._clock.monotonic() + COLLECT_S
        if swept := self._features.sweep(self._clock.now()):
            log.info("features_swept", files=swept)
        if not self._objects.shared:
            return
        done = collect(self._index, self._objects, self._frames, self._clock.now())
        if any(asdict(done).values()):
            log.info("orphans_collected", **asdict(done))

    def _measure_next(self) -> None:
        """Measure how right the student of one camera is, and judge its pace and profile: each in turn, one a minute;
        the first one at once.
        """
        if self._clock.monotonic() < self._next_measure:
            return
        told = self._measurer.next()
        self._next_measure = self._clock.monotonic() + (IDLE_S if told is None else UPKEEP_S)
        if told is None:
            return
        camera, found = told
        ap50 = None if found is None else found.now.ap50
        for bound in Estimate.__struct_fields__:  # after a swap nothing is known of the new student yet
            self._metrics.set("measured_accuracy", getattr(ap50, bound, math.nan), camera=camera, bound=bound)
        wrong = None if found is None else found.now.wrong
        for bound in Share.__struct_fields__:
            self._metrics.set("wrong_records", getattr(wrong, bound, math.nan), camera=camera, bound=bound)
        self._pacer.judge(camera, found)
        self._profiler.judge(camera, found)

    def _show_last_rounds(self) -> None:
        """Export when each camera had its last round; one that never had any has waited since its edge was enrolled."""
        last = self._rounds.last_finished()
        if not (self._metrics.merged and last):  # else each new edge would look like a round
            last = {row.name: last.get(row.name, row.enrolled) for row in self._roster.rows()}
        self._metrics.set_each("last_round_time", last)
