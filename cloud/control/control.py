"""What the elected control does in each of its turns: it answers requests, changes classes, keeps the worker that
labels running, publishes what rounds made, starts the next one, judges students that are new to their cameras
(`waves/`), and keeps the store in bounds (`upkeep.py`).

No state is held in memory alone: the process may die at any moment, and the next that is elected goes on from the
index. It never imports torch.
"""

from __future__ import annotations

from contextlib import suppress

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.cloud.control.actions import MODEL_KINDS, carry_out, to_artefact
from culling.cloud.control.classes import missing, pending
from culling.cloud.control.executor import Executor, write_settings
from culling.cloud.control.labeller import LabellerProcess
from culling.cloud.control.publish import Publisher, SupersededError
from culling.cloud.control.runner import Runner
from culling.cloud.control.steering.order import all_due, choose
from culling.cloud.control.steering.schedule import camera_stats
from culling.cloud.control.upkeep import Upkeep
from culling.cloud.control.waves.waves import Waves
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.state import UNWANTED, worker_name
from culling.cloud.settings import CloudSettings
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.database.errors import DeposedError
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.frames import Counts
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.registry import Origin
from culling.cloud.store.requests import Request, Requests
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import UNFINISHED, Round, Rounds
from culling.cloud.store.waves.trials import Trials
from culling.common.clock import Clock
from culling.common.errors import CullingError, InputError, StorageError
from culling.common.metrics import Metrics
from culling.common.process.survival import surviving

log = structlog.get_logger(__name__)

SCHEDULE_S = 2.0
"""Choosing the next round looks at every camera; rounds take minutes, so that seconds do not matter."""

LATE_S = 10.0
"""Labels are counted so long after they came: they are written some time after the moment that they bear."""


class Control:
    """Used by one thread; `problem` is what keeps a step from its work, "" where all is well.

    Making it raises SettingsError where a camera is in two sets of classes.
    """

    def __init__(
        self, settings: CloudSettings, index: Index, signing: Ed25519PrivateKey, metrics: Metrics, clock: Clock
    ) -> None:
        self._settings = settings
        self._index = index
        self._metrics = metrics
        self._clock = clock
        self._problem = ""
        self._next_classes = self._next_schedule = self._next_count = self._next_waves = 0.0
        self._counted = clock.now() - LATE_S
        pending(settings, index)
        self._frames = frame_store(settings, index, clock)
        self._lifecycle = FrameLifecycle(index, self._frames, clock)
        self._roster = Roster(index)
        self._rounds = Rounds(index)
        self._requests = Requests(index)
        files = model_files(settings)
        shadows = settings.waves.shadow > 0
        self._publisher = Publisher(index, files, signing, settings.publish.valid_days, clock, shadows)
        self._trials = Trials(index)
        self._waves = Waves(index, self._frames, self._publisher, settings, metrics, clock)
        child_settings = write_settings(settings)
        executor = Executor(child_settings, settings, clock)
        self._runner = Runner(executor, self._rounds, clock, settings.round.stall_s)
        queue = LabelQueue(index, self._frames, clock, settings.labelling.per_day, worker_name(settings.data_dir))
        standing = settings.labelling.verdicts_per_minute > 0
        self._labeller = LabellerProcess(child_settings, queue, clock, settings.round.stall_s, standing)
        self._upkeep = Upkeep(settings, index, self._frames, files, metrics, clock)

    @property
    def problem(self) -> str:
        """What keeps a step, or the worker that labels, from its work; "" where all is well."""
        return self._problem or self._labeller.problem

    def take_turn(self) -> None:
        """Take every step once. One that cannot read or write keeps no other back: the upkeep is what makes room.

        Raises DeposedError, before anything is changed, where this process is not the elected one any more.
        """
        problem = ""
        steps = (
            self._answer_requests,
            self._change_classes,
            self._tend_labelling,
            self._advance_rounds,
            self._tend_waves,
            *self._upkeep.steps,
        )
        for step in steps:
            try:
                with surviving("service", self._metrics, step=step.__name__):
                    step()
            except DeposedError:
                raise
            except StorageError as error:  # a full disk passes: the next turn tries again
                problem = problem or str(error)
        if problem and not self._problem:
            log.error("service_hindered", error=problem)
        self._problem = problem

    def stop(self) -> None:
        """End every process that works, and write down what is known."""
        self._labeller.terminate()
        self._runner.stop()
        self._labeller.stop()
        with suppress(StorageError):
            self._upkeep.record_minute()

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

    # Waves

    def _tend_waves(self) -> None:
        if self._clock.monotonic() >= self._next_waves:
            self._next_waves = self._clock.monotonic() + SCHEDULE_S
            self._waves.tend()

    # Rounds

    def _advance_rounds(self) -> None:
        for stalled in self._runner.kill_stalled():
            self._metrics.count("rounds_stalled", camera=stalled.camera)
        for ended in self._runner.collect():
            if ended.state not in UNFINISHED:
                self._count(ended)
        turns = self._rounds.unfinished()
        self._runner.stop_ended([turn.id for turn in turns])
        for turn in turns:
            if turn.state == "running":
                self._runner.start(turn)
            elif turn.id not in self._runner.running:
                self._publish(turn)
        slots = self._runner.parallel - sum(turn.state == "running" for turn in turns)
        if slots > 0 and self._clock.monotonic() >= self._next_schedule:
            self._next_schedule = self._clock.monotonic() + SCHEDULE_S
            self._start_next({turn.camera for turn in turns} | self._trials.busy())

    def _start_next(self, busy: set[str]) -> None:
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
            if not row.revoked and row.name not in busy
        ]
        now = self._clock.now()
        found = all_due(cameras, now, self._settings.schedule)
        last = self._rounds.last({stats.camera for stats, _ in found}) if len(found) > 1 else {}
        if (chosen := choose(found, now, self._settings.schedule, last)) is None:
            return
        stats, trigger = chosen
        turn = self._rounds.start(stats.camera, trigger, now)
        log.info("round_started", round=turn.id, camera=turn.camera, trigger=trigger, waiting=stats.waiting)
        if stats.camera in asked:
            answer = f"round {turn.id} started"
            if not self._settings.labelling.per_day:
                answer += f", with the labels that there are: {UNWANTED}"
            self._requests.answer(asked[stats.camera], answer, False, now)
        self._runner.start(turn)

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
            origin: Origin = "zoo" if "judged" in turn.stages.get("zoo", {}) else "round"
            self._publisher.publish_round(turn.id, turn.camera, to_artefact(artefact), judged.get("replaced"), origin)
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
        for outcome, count in turn.report.get("zoo", {}).get("outcomes", {}).items():
            self._metrics.count("zoo_students", count, camera=turn.camera, outcome=outcome)
        for outcome, count in turn.report.get("distilled", {}).items():
            self._metrics.count("frames_distilled", count, camera=turn.camera, outcome=outcome)
        self._metrics.set("last_round_time", self._clock.now(), camera=turn.camera)
        for stage, seconds in turn.report.get("seconds", {}).items():
            self._metrics.observe("round_seconds", seconds, stage=stage)
