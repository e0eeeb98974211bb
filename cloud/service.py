"""The cloud service, from start to end: ingest on its own thread, one round at a time and the worker that labels in
child processes, and a loop that answers requests, publishes what rounds made, starts the next one, and keeps the store
in bounds.

No state is held in memory alone: the process may die at any moment, and its next start goes on from the index. It never
imports torch. The address it listens on stands in `endpoint` of the data folder, that of its metrics in
`metrics`, that of the page in `page`, while it runs.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import threading
from contextlib import ExitStack, suppress
from dataclasses import asdict
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from culling.cloud.bill.series import CostSeries
from culling.cloud.check.checks import check_student, check_teacher
from culling.cloud.control.accuracy import Measurer
from culling.cloud.control.actions import MODEL_KINDS, carry_out, to_artefact
from culling.cloud.control.classes import missing, pending
from culling.cloud.control.executor import Executor
from culling.cloud.control.labeller import LabellerProcess
from culling.cloud.control.publish import Publisher, SupersededError
from culling.cloud.control.schedule import camera_stats, choose
from culling.cloud.evaluation.accuracy import Estimate
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.state import UNWANTED
from culling.cloud.link.admission import free_bytes
from culling.cloud.link.ingest import Ingest
from culling.cloud.page.dashboard import Dashboard
from culling.cloud.settings import CloudSettings, to_toml
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.folders import only_one
from culling.cloud.store.frames import Counts
from culling.cloud.store.history import History
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.lifecycle import AT_ONCE, FrameLifecycle
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.objects.orphans import collect
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.people.deeds import Deeds
from culling.cloud.store.registry import Registry
from culling.cloud.store.requests import Request, Requests
from culling.cloud.store.retention import forget_records
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import UNFINISHED, Round, Rounds
from culling.common.address import http_url
from culling.common.atomic import write_atomic
from culling.common.clock import DAY_S, Clock, SystemClock
from culling.common.errors import CullingError, InputError, StorageError
from culling.common.metrics import Metrics
from culling.common.process import notify
from culling.common.process.health import HealthServer
from culling.common.process.survival import surviving

log = structlog.get_logger(__name__)

TURN_S = 0.5
"""A request is carried out within this time."""

SCHEDULE_S = 2.0
"""Choosing the next round looks at every camera; rounds take minutes, so that seconds do not matter."""

LATE_S = 10.0
"""Labels are counted so long after they came: they are written some time after the moment that they bear."""

UPKEEP_S = 60.0
"""Until the next expiry new frames fit into the share of the quota that it keeps free."""

COLLECT_S = 3600.0
"""What is left over in a bucket costs little, and listing it takes one request for a thousand pictures."""

SHORT_S = 3600.0
"""Where the disk is short, a model's file goes so long after it was written; a command names it by then."""


class Service:
    """Everything that `culling cloud serve` runs. Raises a CullingError from `run` when it cannot start or go on."""

    def __init__(self, settings: CloudSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._held = ExitStack()
        self._problem = ""
        self._next_classes = self._next_upkeep = self._next_measure = self._next_schedule = self._next_count = 0.0
        self._next_collect = self._clock.monotonic() + COLLECT_S  # never at a start: it would only hold that up
        self._counted = self._clock.now() - LATE_S
        self._minute = int(self._clock.now() // 60)

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP."""
        _allow_many_connections()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        with only_one(self._settings.data_dir):
            self._startup()
            try:
                self._main_loop()
            finally:
                self._shutdown()

    # In the order of its life

    def _startup(self) -> None:
        check_student(self._settings)
        check_teacher(self._settings)  # else the first to tell would be a round, hours later
        data_dir = self._settings.data_dir
        self._forget_addresses()  # those of a service that was killed
        keys = load_keys(data_dir)
        registry = CollectorRegistry()
        self._metrics = Metrics(registry, "cloud")
        self._index = Index(self._settings.store_url)
        if not self._held.enter_context(self._index.elected()):
            raise StorageError("store.url: another service works on that index, on this machine or another: stop it")
        self._objects = open_objects(self._settings.store.objects, data_dir)
        self._frames = frame_store(self._settings, self._index, self._clock)
        self._lifecycle = FrameLifecycle(self._index, self._frames, self._clock)
        self._files = model_files(self._settings)
        self._registry = Registry(self._index)
        pending(self._settings, self._index)  # raises where a camera is in two sets of classes
        self._roster = Roster(self._index)
        self._rounds = Rounds(self._index)
        self._requests = Requests(self._index)
        valid_days = self._settings.publish.valid_days
        self._measurer = Measurer(self._index, self._frames, self._settings, self._clock)
        self._publisher = Publisher(self._index, self._files, keys.signing, valid_days, self._clock)
        round_settings = data_dir / "round.toml"
        write_atomic(round_settings, to_toml(self._settings), mode=0o600)
        self._executor = Executor(round_settings, self._rounds, self._clock, self._settings.round.stall_s)
        queue = LabelQueue(self._index, self._frames, self._clock, self._settings.labelling.per_day)
        self._labeller = LabellerProcess(round_settings, queue, self._clock, self._settings.round.stall_s)
        settled = self._frames.reconcile()
        self._ingest = Ingest(
            self._settings, keys.curve_secret, self._index, self._frames, self._files, self._metrics, self._clock
        )
        metrics = self._settings.metrics
        self._health = HealthServer(metrics.host, metrics.port, registry, self._ready)
        known = {row.name: row.state for row in self._roster.rows() if row.state is not None}
        self._history = History(self._index, known)
        self._costs = CostSeries(self._index, self._settings, self._metrics, self._clock)
        self._seen = self._index.apart()  # else many who watch could keep ingest waiting for a connection
        self._page = Dashboard(
            self._settings, self._seen, self._frames, lambda: self._ingest.latest, self._clock, self._metrics
        )
        self._ingest.start()
        write_atomic(data_dir / "metrics", f"{http_url(metrics.host, self._health.port)}\n".encode())
        write_atomic(data_dir / "page", f"{self._page.url}\n".encode())
        write_atomic(data_dir / "endpoint", f"{self._ingest.endpoint}\n".encode())
        notify.tell(notify.READY)
        log.info("service_started", endpoint=self._ingest.endpoint, page=self._page.url, **asdict(settled))

    def _main_loop(self) -> None:
        while not self._stopping.wait(TURN_S):
            notify.tell(notify.ALIVE)
            if self._ingest.failure is not None:
                raise StorageError(f"ingest ended: {self._ingest.failure}") from self._ingest.failure
            self._take_turn()

    def _take_turn(self) -> None:
        """Take every step once. One that cannot read or write keeps no other back: the upkeep is what makes room."""
        problem = ""
        steps = (
            self._answer_requests,
            self._change_classes,
            self._tend_labelling,
            self._advance_rounds,
            self._pass_minute,
            self._upkeep,
        )
        for step in (*steps, self._measure_next, self._collect_orphans):
            try:
                with surviving("service", self._metrics, step=step.__name__):
                    step()
            except StorageError as error:  # a full disk passes: the next turn tries again
                problem = problem or str(error)
        if problem and not self._problem:
            log.error("service_hindered", error=problem)
        self._problem = problem

    def _shutdown(self) -> None:
        notify.tell(notify.STOPPING)
        self._forget_addresses()
        self._labeller.terminate()
        self._executor.stop()
        self._labeller.stop()
        self._ingest.stop()
        with suppress(StorageError):
            self._record_minute()
        self._page.close()
        self._seen.close()
        self._health.close()
        with suppress(StorageError):  # a database that is gone has given it up
            self._held.close()
        self._index.close()
        log.info("service_stopped")

    def _forget_addresses(self) -> None:
        for name in ("endpoint", "metrics", "page"):
            (self._settings.data_dir / name).unlink(missing_ok=True)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping.is_set():  # it may die at any moment: the next start goes on from there
            os._exit(128 + number)
        self._stopping.set()

    def _ready(self) -> tuple[bool, str]:
        problem = self._problem or self._ingest.problem or self._labeller.problem
        return not problem, problem or "frames are accepted, rounds run"

    # Requests

    def _answer_requests(self) -> None:
        for request in self._requests.open():
            if request.kind == "round" and self._has_rounds(request.camera):
                continue  # answered when it starts
            try:
                answer, failed = self._carry_out(request), False
            except StorageError:
                raise
            except CullingError as error:
                answer, failed = str(error), True
            except Exception as error:  # one that is never answered would be tried twice a second
                log.exception("request_failed", request=request.id, kind=request.kind, camera=request.camera)
                answer, failed = f"unexpected {type(error).__name__}: see the service's log", True
            self._requests.answer(request.id, answer, failed, self._clock.now())
            log.info("request_answered", kind=request.kind, camera=request.camera, answer=answer)

    def _carry_out(self, request: Request) -> str:
        self._roster.require(request.camera)
        if request.kind == "round":
            raise InputError(f"camera {request.camera} cannot have a round: its edge is revoked")
        answer = carry_out(request, self._index, self._publisher)
        if request.kind == "rollback":
            by = "gate" if "withdrawn" in request.payload else "operator"
            self._metrics.count("rollbacks", camera=request.camera, by=by)
        if request.kind in MODEL_KINDS:
            self._metrics.count("models_published", camera=request.camera)
        return answer

    def _has_rounds(self, camera: str) -> bool:
        return any(row.name == camera and not row.revoked for row in self._roster.rows())

    # Classes

    def _change_classes(self) -> None:
        """Bring the list of each camera's set into force, when no round of the camera runs, and ask for a round of it.

        A camera that has no frame yet begins with its set, and needs none.
        """
        if self._clock.monotonic() < self._next_classes:
            return
        self._next_classes = self._clock.monotonic() + SCHEDULE_S
        busy = {turn.camera for turn in self._rounds.unfinished()}
        counts, now = self._frames.counts(), self._clock.now()
        for camera, wanted in pending(self._settings, self._index).items():
            if camera in busy:
                continue
            relist(self._index, camera, wanted, now)
            if camera in counts:
                self._requests.ask_once("round", camera, now)

    # Labels

    def _tend_labelling(self) -> None:
        """Keep the worker running, and count what it labelled, which it says in the index."""
        if self._labeller.tend():
            self._metrics.count("labelling_deaths")
        if self._clock.monotonic() < self._next_count:
            return
        self._next_count = self._clock.monotonic() + SCHEDULE_S
        self._metrics.set("labelling_failing", float(bool(self._labeller.problem)))
        until = max(self._counted, self._clock.now() - LATE_S)  # the clock may have been set back
        for camera, count in self._lifecycle.labelled_between(self._counted, until).items():
            self._metrics.count("frames_labelled", count, camera=camera)
        self._counted = until

    # Rounds

    def _advance_rounds(self) -> None:
        if self._executor.busy:
            self._executor.stop_ended()
            if (stalled := self._executor.kill_stalled()) is not None:
                self._metrics.count("rounds_stalled", camera=stalled.camera)
            return
        ended = self._executor.collect()
        if ended is not None and ended.state not in UNFINISHED:
            self._count(ended)
        for turn in self._rounds.unfinished():
            if turn.state == "ready":
                self._publish(turn)
            else:
                self._executor.start(turn)
                return
        if self._clock.monotonic() >= self._next_schedule:
            self._next_schedule = self._clock.monotonic() + SCHEDULE_S
            self._start_next()

    def _start_next(self) -> None:
        asked = self._requests.rounds()
        counts, desired_states = self._frames.counts(), DesiredStates(self._index).all()
        taught, lacks = self._rounds.taught(), missing(self._settings, self._index, asked)
        cameras = [
            camera_stats(
                row,
                counts.get(row.name, Counts()),
                desired_states.get(row.name, DesiredState()),
                self._settings.gate.least,
                row.name not in taught,
                row.name in asked,
                self._settings.labelling.per_day > 0,
                lacks.get(row.name, 0),
            )
            for row in self._roster.rows()
            if not row.revoked
        ]
        now = self._clock.now()
        if (chosen := choose(cameras, now, self._settings.schedule)) is None:
            return
        stats, trigger = chosen
        turn = self._rounds.start(stats.camera, trigger, now)
        log.info("round_started", round=turn.id, camera=turn.camera, trigger=trigger, waiting=stats.waiting)
        if stats.camera in asked:
            answer = f"round {turn.id} started"
            if not self._settings.labelling.per_day:
                answer += f", with the labels that there are: {UNWANTED}"
            self._requests.answer(asked[stats.camera], answer, False, now)
        self._executor.start(turn)

    def _publish(self, turn: Round) -> None:
        if (pinned := DesiredStates(self._index).all().get(turn.camera, DesiredState()).pinned) is not None:
            report, reason = turn.report | {"published": False}, f"the camera is pinned to {pinned}"
            self._rounds.end(turn.id, "refused", report, reason, self._clock.now())
            self._count(self._rounds.get(turn.id))
            return
        try:
            # The gate may have passed the candidate at another scale than it was exported for.
            judged = turn.stages.get("gate", {})
            artefact = judged.get("artefact") or turn.stages.get("export", {}).get("artefact")
            self._publisher.publish_round(turn.id, turn.camera, to_artefact(artefact), judged.get("replaced"))
            self._metrics.count("models_published", camera=turn.camera)
        except StorageError:
            raise
        except CullingError as error:
            state = "refused" if isinstance(error, SupersededError) else "failed"
            report = turn.report | {"published": False}
            self._rounds.end(turn.id, state, report, str(error), self._clock.now())
        self._count(self._rounds.get(turn.id))

    def _count(self, turn: Round) -> None:
        self._metrics.count("rounds", camera=turn.camera, outcome=turn.state)
        self._metrics.count("frames_kept", turn.report.get("kept", 0), camera=turn.camera)
        self._metrics.count("audits_labelled", turn.report.get("audits_labelled", 0), camera=turn.camera)
        self._metrics.count("audits_missed", turn.report.get("audits_missed", 0), camera=turn.camera)
        self._metrics.set("last_round_time", self._clock.now(), camera=turn.camera)
        for stage, seconds in turn.report.get("seconds", {}).items():
            self._metrics.observe("round_seconds", seconds, camera=turn.camera, stage=stage)

    # Upkeep

    def _pass_minute(self) -> None:
        if self._clock.now() // 60 != self._minute:
            self._record_minute()

    def _record_minute(self) -> None:
        """Record what the cameras counted in the minute that has passed."""
        latest = {name: state for name, (state, heard) in self._ingest.latest.items() if heard // 60 >= self._minute}
        self._history.record(latest, self._minute)
        self._minute = int(self._clock.now() // 60)
        self._costs.advance()

    def _upkeep(self) -> None:
        if self._clock.monotonic() < self._next_upkeep:
            return
        self._next_upkeep = self._clock.monotonic() + UPKEEP_S
        store, now = self._settings.store, self._clock.now()
        spare = 2 * self._settings.service.reserve_bytes - free_bytes(self._settings.data_dir)  # where windows shrink
        # Models go before frames: one that is out of use is as large as a thousand pictures, and can be made again.
        self._files.prune(self._registry.wanted_files(), now - (SHORT_S if spare > 0 else DAY_S))
        people_days = store.people_days or store.records_days
        room = 0 if self._objects.shared else spare  # pictures in a bucket take none of the disk
        gone = self._lifecycle.expire(store.quota_bytes, store.retention_days, room, people_days)
        for (camera, reason), count in gone.items():
            self._metrics.count("frames_expired", count, camera=camera, reason=reason)
        passed = self._lifecycle.pass_over()
        for (camera, reason), count in passed.items():
            self._metrics.count("frames_passed_over", count, camera=camera, reason=reason)
        if max(sum(gone.values()), sum(passed.values())) >= AT_ONCE:
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

    def _collect_orphans(self) -> None:
        """Settle what no row names in a bucket, once an hour: the one service that works on the index does."""
        if not self._objects.shared or self._clock.monotonic() < self._next_collect:
            return
        self._next_collect = self._clock.monotonic() + COLLECT_S
        done = collect(self._index, self._objects, self._frames, self._clock.now())
        if any(asdict(done).values()):
            log.info("orphans_collected", **asdict(done))

    def _measure_next(self) -> None:
        """Measure how right the student of one camera is: each of them in turn, one a minute; the first one at once."""
        if self._clock.monotonic() < self._next_measure:
            return
        told = self._measurer.next()
        self._next_measure = self._clock.monotonic() + (SCHEDULE_S if told is None else UPKEEP_S)
        if told is None:
            return
        camera, found = told
        ap50 = None if found is None else found.now.ap50
        for bound in Estimate.__struct_fields__:  # after a swap nothing is known of the new student yet
            self._metrics.set("measured_accuracy", getattr(ap50, bound, math.nan), camera=camera, bound=bound)

    def _show_last_rounds(self) -> None:
        """Export when each camera had its last round; one that never had any has waited since its edge was enrolled."""
        finished = self._rounds.last_finished()
        for row in self._roster.rows():
            self._metrics.set("last_round_time", finished.get(row.name, row.enrolled), camera=row.name)


def _allow_many_connections() -> None:
    """Raise the limit on open files, so that strangers who only connect leave enough for the store."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
