"""The edge agent: every stage wired together, in the order of its life: startup → main_loop → shutdown.

    camera threads     decode, and keep only the newest frame                                camera.py, latest.py
    main loop          newest frames → student, batched → score → decision → queue           lane.py, student.py
    recorder thread    queue → JPEG → spool                                                  recorder.py, spool.py
    forwarder thread   spool → cloud, models ← cloud                                         forwarder.py, updater.py
    output threads     detections → files, brokers, servers                                  output/
    view threads       frames and detections → whoever looks                                 view/
    builder thread     proves and warms a new model; it is taken between two frames          builder.py, slot.py

The camera path never waits for network or disk. An error that cannot be retried ends the agent, with its exit code.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import av
import msgspec
import structlog
from prometheus_client import CollectorRegistry

from culling.common.clock import Clock, SystemClock
from culling.common.errors import CullingError, ModelError, StorageError
from culling.common.logs import redact
from culling.common.metrics import Metrics
from culling.common.process import notify
from culling.common.process.health import HealthServer
from culling.common.process.lock import only_one
from culling.common.process.survival import note_failed
from culling.common.selection.selector import build_selector
from culling.common.traces.settings import open_traces
from culling.common.wire.manifest import Manifest
from culling.common.wire.messages import CameraState, Desired
from culling.common.wire.transport import public_key
from culling.edge.camera.camera import Camera, CameraSettings, Frame
from culling.edge.camera.ending import replace_source, stop_all
from culling.edge.camera.latest import LatestFrame
from culling.edge.cascade.cascade import Cascade
from culling.edge.cascade.line import Line
from culling.edge.classes import Unfound, asking_for, unfound
from culling.edge.gauges import Gauges
from culling.edge.lane import Lane
from culling.edge.model.builder import Builder
from culling.edge.model.inbox import Inbox
from culling.edge.model.package import initial_package, signing_keys
from culling.edge.model.provider import choose_provider
from culling.edge.model.slot import ModelSlot
from culling.edge.model.student import Student
from culling.edge.model.updater import Updater
from culling.edge.output.outlets import DRAIN_S, Others, Outlets
from culling.edge.output.sink import Around, CameraNow
from culling.edge.regions import Regions
from culling.edge.reload import LOCK, SettingsChange, answer, compare, has_terminal
from culling.edge.settings import EdgeSettings
from culling.edge.spool.forwarder import INCOMPATIBLE, REFUSED, Forwarder
from culling.edge.spool.recorder import Recorder
from culling.edge.spool.spool import Spool
from culling.edge.spool.traced import Traced
from culling.edge.trace import Trace
from culling.edge.tracks import Tracks
from culling.edge.view.abroad import Abroad
from culling.edge.view.view import View
from culling.edge.watchdog import Watchdog

log = structlog.get_logger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT)
WAIT_S = 0.2
"""How long the main loop sleeps without a frame; a signal or a tick waits no longer."""
TICK_S = 1.0
"""Seconds between looks at failures, windows and gauges: none of them needs to be seen sooner."""
STOP_S = 1.0
"""How long shutdown waits for a camera: FFmpeg may hold its thread for seconds, and its frames are refused anyway."""
CLOSING_S, CLOSING_SHARE = 3.0, 0.3
"""Of the time that an agent has to end, what it keeps for closing the link and the rest: so many seconds at most."""
MAIN = "main"
STUCK_S = 60.0
"""A main loop that takes longer hangs; its longest turn is a CUDA model's first frame of a new size."""
PATIENCE_S = 30.0
"""When students have only failed for so long, the GPU is probably gone: the agent ends, to be restarted."""


@dataclass(frozen=True)
class Work:
    """One frame to infer."""

    lane: Lane
    frame: Frame
    student: Student


@dataclass(frozen=True)
class Prepared:
    """Other settings, and a lane for each camera that is new in them."""

    settings: EdgeSettings
    change: SettingsChange
    lanes: list[Lane]
    tracks: dict[str, Tracks | None]
    outputs: Others
    unfound: tuple[Unfound, ...] = ()


class Agent:
    """One process beside its cameras. `run` returns after a signal, or when all its files have ended.

    `load` reads the settings again when SIGHUP asks for it; without it an agent keeps the cameras that it started with.
    They stand in `file`, where regions that are drawn in the view are written.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        clock: Clock | None = None,
        load: Callable[[], EdgeSettings] | None = None,
        file: Path | None = None,
    ) -> None:
        self.boot = uuid.uuid4().hex
        self._settings = settings
        self._load = load or (lambda: settings)
        self._file = file
        self._clock = clock or SystemClock()
        self._life = ExitStack()
        self._lanes: list[Lane] = []
        self._arrivals = threading.Condition()
        self._watchdog = Watchdog()
        self._stuck: list[str] = []
        self._over = threading.Event()
        self._stopping = False
        self._terminal = has_terminal()
        self._reload_asked = self._reloading = False
        self._prepared: Prepared | None = None
        self._failing_since: float | None = None
        self._next_tick = self._deadline = self._clock.monotonic()

    def run(self) -> None:
        """Run from startup to shutdown. Raises what ended the agent early, e.g. `ModelError` when no provider works."""
        try:
            self.startup()
            self.main_loop()
        finally:
            self.shutdown()

    def startup(self) -> None:
        """Build the stages, from the cloud link to the cameras, and start them; `shutdown` ends them in reverse."""
        for number in ENDING:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        agent, life = self._settings.agent, self._life
        _make_folder(agent.state_dir)
        life.enter_context(only_one(agent.state_dir / LOCK, "agent"))
        self._metrics = self._serve_metrics()
        self._trace = Trace(agent.trace, self._clock) if agent.trace else None
        if self._trace:
            life.callback(self._trace.close)
        self._traced = self._open_traces()
        self._builder = self._make_builder()
        life.callback(lambda: self._builder.close(self._time_left()))
        self._spool = Spool(agent.state_dir / "spool.sqlite", self._settings.spool.max_bytes, self.boot)
        self._metrics.set("spool_limit_bytes", self._settings.spool.max_bytes)
        life.callback(self._spool.close)
        slots = {camera.name: self._make_slot(camera.name) for camera in self._settings.camera}
        self._gauges = Gauges(self._metrics, self._spool, agent.state_dir, list(slots))
        self._abroad = Abroad(self._settings.view.through_cloud, self._names, self._metrics, self._clock)
        self._line = Line(self.boot, self._settings.spool.jpeg_quality, self._clock, self._arrivals)
        self._forwarder = self._make_forwarder(slots)
        life.callback(lambda: self._forwarder.finish(self._time_left()))
        self._recorder = self._make_recorder()
        life.callback(lambda: self._recorder.drain(self._time_left()))
        self._outlets = self._make_outlets()
        self._view = View(lambda: self._settings, self._file, self._now, self._abroad, self._metrics, self._clock)
        life.callback(self._view.close)
        self._lanes = [self._make_lane(camera, slots[camera.name]) for camera in self._settings.camera]
        life.callback(lambda: self._outlets.close(min(DRAIN_S, self._time_left())))
        life.callback(self._stop_cameras)
        self._start_all()

    def main_loop(self) -> None:
        """Infer the newest frames and decide on them, until a signal comes or all files have ended."""
        self._watchdog.watch(MAIN, STUCK_S, self._clock.monotonic())
        while not (self._stopping or self._done()):
            self._watchdog.beat(MAIN, self._clock.monotonic())
            self._wait_for_frames()
            self._infer_newest()
            self._let_go()
            self._reload()
            if self._clock.monotonic() >= self._next_tick:
                self._tick()
        self._watchdog.release(MAIN)
        for lane in self._lanes:
            lane.flush()
            if lane.camera.state == "ended":
                lane.end_window(final=True)
            else:
                lane.tally()

    def shutdown(self) -> None:
        """Stop the cameras, write what is queued, send what the cloud takes in time, and close everything."""
        log.info("agent_shutdown_started")
        notify.tell(notify.STOPPING)
        drain_s = self._settings.agent.drain_s
        self._deadline = self._clock.monotonic() + drain_s - min(CLOSING_S, CLOSING_SHARE * drain_s)
        self._life.close()
        log.info("agent_stopped")

    # Startup

    def _serve_metrics(self) -> Metrics:
        registry, settings = CollectorRegistry(), self._settings.metrics
        metrics = Metrics(registry, "edge")
        server = HealthServer(settings.host, settings.port, registry, self._ready)
        self._life.callback(server.close)
        log.info("metrics_served", host=settings.host, port=server.port)
        return metrics

    def _open_traces(self) -> Traced | None:
        if (traces := open_traces(self._settings.traces, "edge", self._metrics)) is None:
            return None
        self._life.callback(traces.close)
        return Traced(traces, public_key(self._settings.cloud.secret_key.get_secret_value()))

    def _make_builder(self) -> Builder:
        provider = choose_provider(self._settings.agent.allow_cpu)
        self._metrics.set("gpu", float(provider == "cuda"))
        return Builder(
            provider, self._settings.agent.threads, on_defect=lambda error: note_failed("builder", self._metrics, error)
        )

    def _make_slot(self, camera: str) -> ModelSlot:
        folder = self._settings.agent.state_dir / "models" / camera
        initial = initial_package(self._settings, camera, self._clock.now())
        slot = ModelSlot(
            camera,
            folder,
            initial,
            self._builder,
            self._clock,
            on_error=self._on_refused,
            together=self._together,
            on_shadow=lambda outcome: self._metrics.count("frames_shadowed", camera=camera, outcome=outcome),
        )
        slot.boot()
        return slot

    def _together(self, manifest: Manifest, size: tuple[int, int]) -> int:
        """Return how many cameras may come to run that model on inputs of that size, and so share a batch."""
        return max(1, sum(lane.slot.may_run(manifest, size) for lane in self._lanes))

    def _make_forwarder(self, slots: dict[str, ModelSlot]) -> Forwarder:
        keys = signing_keys(self._settings)
        self._updater = Updater(slots, keys, self._clock, self._on_refused, self._on_fetched)
        self._inbox = Inbox(self._settings.agent.state_dir, keys, self._clock, self._on_refused)
        return Forwarder(
            self._settings.cloud,
            self.boot,
            self._spool,
            self._updater,
            self._states,
            self._metrics,
            self._clock,
            self._watchdog,
            self._apply_desired,
            self._abroad,
            self._traced,
            self._line,
        )

    def _make_recorder(self) -> Recorder:
        depth, quality = self._settings.spool.queue, self._settings.spool.jpeg_quality
        clock, watchdog = self._clock, self._watchdog
        return Recorder(self._spool, self._metrics, clock, watchdog, depth, quality, self._arrivals, self._traced)

    def _states(self) -> list[CameraState]:
        """Return what heartbeats say; the first camera tells of the outputs, which are the agent's."""
        shown = self._abroad.allowed
        states = [msgspec.structs.replace(lane.state(), through_cloud=shown) for lane in self._lanes]
        return [msgspec.structs.replace(one, outputs=self._outlets.troubles) for one in states[:1]] + states[1:]

    def _make_outlets(self) -> Outlets:
        return Outlets(self._settings.output, Around(self._clock, self._now), self._metrics)

    def _now(self) -> list[CameraNow]:
        return [lane.now() for lane in self._lanes]

    def _names(self) -> list[str]:
        return [lane.name for lane in self._lanes]

    def _make_lane(self, camera: CameraSettings, slot: ModelSlot) -> Lane:
        # A camera that ran here before has had its first frames already.
        bootstrap = max(0, self._settings.selector.bootstrap - self._spool.counts(camera.name).made)
        selector = self._settings.selector.model_copy(update={"bootstrap": bootstrap})
        return Lane(
            self._make_camera(camera),
            slot,
            build_selector(selector, random.Random(), self._spool.spent(camera.name), self._spool.held(camera.name)),
            self._settings.confidence,
            self._recorder,
            self._metrics,
            self._clock,
            self._trace,
            patient=camera.patient,
            difference=self._settings.difference,
            outlets=self._outlets,
            regions=Regions(camera.ignore, camera.zone),
            tracks=_tracks(camera),
            live=self._view.live,
            cascade=self._make_cascade(camera.name),
        )

    def _make_cascade(self, camera: str) -> Cascade | None:
        settings = self._settings.cascade
        return Cascade(settings, camera, self._line, self._metrics, self._clock) if settings.asks(camera) else None

    def _make_camera(self, camera: CameraSettings) -> Camera:
        return Camera(camera, LatestFrame(self._arrivals), self._clock, self._metrics)

    def _start_all(self) -> None:
        self._life.callback(self._over.set)
        threading.Thread(target=self._guard, name="guard", daemon=True).start()
        self._builder.start()
        self._recorder.start()
        self._forwarder.start()
        self._outlets.start()
        for lane in self._lanes:
            lane.camera.start()
        notify.tell(notify.READY)
        log.info("agent_started", boot=self.boot, cameras=[lane.name for lane in self._lanes])

    # Main loop

    def _wait_for_frames(self) -> None:
        with self._arrivals:
            self._arrivals.wait_for(lambda: self._line.heard or self._frame_waits(), WAIT_S)

    def _frame_waits(self) -> bool:
        return any(lane.ready for lane in self._lanes)

    def _infer_newest(self) -> None:
        batches = self._batches()
        for batch in batches:
            self._infer(batch)
        if batches and not self._frame_waits():
            self._builder.rests()

    def _let_go(self) -> None:
        """Take the verdicts that came, and let the records go that wait no longer."""
        came = self._line.came()
        named = {lane.name for lane in self._lanes} if came else set()
        if strange := sum(verdict.camera not in named for verdict in came):
            self._metrics.count("messages_refused", strange, reason="unasked")
        for lane in self._lanes:
            try:
                for verdict in came:
                    if verdict.camera == lane.name:
                        lane.hear(verdict)
                lane.release()
            except Exception as error:  # what others are told of a frame costs the camera nothing
                note_failed("outputs", self._metrics, error, camera=lane.name)

    def _batches(self) -> list[list[Work]]:
        """Take the newest frame of every camera that has one; frames of one model and input size form a batch."""
        batches: dict[tuple[object, ...], list[Work]] = {}
        for lane in self._lanes:
            if (taken := self._taken(lane)) is not None:
                frame, student = taken
                key = (student.manifest.sha256, student.manifest.scale, student.input_size(frame.width, frame.height))
                batches.setdefault(key, []).append(Work(lane, frame, student))
        return list(batches.values())

    def _taken(self, lane: Lane) -> tuple[Frame, Student] | None:
        try:
            return lane.take()
        except Exception as error:
            self._broke(lane, error)
            return None

    def _broke(self, lane: Lane, error: Exception) -> None:
        """Take that a step of ours broke on the frame taken last; the next one is another."""
        note_failed(MAIN, self._metrics, error, camera=lane.name)
        lane.drop("broken")

    def _infer(self, batch: list[Work]) -> None:
        started = self._clock.monotonic()
        try:
            found = batch[0].student.infer([work.frame for work in batch])
        except Exception as error:
            self._isolate(batch, error)
            return
        self._failing_since = None
        seconds = (self._clock.monotonic() - started) / len(batch)
        for work, detections in zip(batch, found, strict=True):
            try:
                work.lane.inferred(work.frame, work.student, detections, seconds)
            except Exception as error:
                self._broke(work.lane, error)

    def _isolate(self, batch: list[Work], error: Exception) -> None:
        """Retry a failed batch frame by frame, so that no camera's frame costs another's; blame picture or model."""
        if len(batch) > 1:
            for work in batch:
                self._infer([work])
            return
        [work] = batch
        if isinstance(error, (av.FFmpegError, ValueError)):  # the decoder's scaler could not read the picture
            work.lane.drop("unreadable")
            return
        if not isinstance(error, ModelError):
            self._broke(work.lane, error)
            return
        work.lane.failed(error)
        now = self._clock.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > PATIENCE_S:
            raise ModelError(f"every inference has failed for {PATIENCE_S:g} s: check the GPU and its driver: {error}")

    def _tick(self) -> None:
        """Do what is due once a second."""
        self._next_tick = self._clock.monotonic() + TICK_S
        for failure in (self._recorder.failure, self._forwarder.failure, self._builder.failure):
            if failure is not None:
                raise failure
        for lane in self._lanes:
            try:
                lane.end_window()
            except Exception as error:
                note_failed(MAIN, self._metrics, error, camera=lane.name)
        self._metrics.set("storage_failing", float(self._recorder.failing or self._forwarder.storage_failing))
        if self._inbox.waiting:
            slots = {lane.name: lane.slot for lane in self._lanes}
            self._builder.submit(lambda: self._inbox.take(slots))
        try:
            self._gauges.export()
        except Exception as error:
            note_failed(MAIN, self._metrics, error)

    def _done(self) -> bool:
        """Whether all cameras are files that have ended, and the agent ends with them.

        Raises `CameraError` when no camera is left because files cannot be played.
        """
        cameras = [lane.camera for lane in self._lanes]
        if any(camera.state not in ("ended", "failed") or camera.latest.ready for camera in cameras):
            return False
        if any(lane.holding for lane in self._lanes):
            return False
        failures = [camera.failure for camera in cameras if camera.failure is not None]
        if failures and (len(failures) == len(cameras) or self._settings.agent.exit_when_done):
            raise failures[0]
        return self._settings.agent.exit_when_done

    # Other cameras

    def _reload(self) -> None:
        """Have other settings made ready when that was asked for, and take them once they are."""
        if self._reload_asked and not self._reloading:
            self._reload_asked, self._reloading = False, True
            self._builder.submit(self._prepare)
        if (prepared := self._prepared) is not None:
            self._prepared = None
            self._take(prepared)
            text = "\n".join([str(prepared.change), *(f"warning: {one.key}: {one}" for one in prepared.unfound)])
            self._builder.submit(lambda: self._answer(text))

    def _prepare(self) -> None:
        """On the builder's thread: read the settings, and make a lane for each camera that is new."""
        try:
            settings = self._load()
            change = compare(self._settings, settings)
            lanes = [self._make_lane(camera, self._make_slot(camera.name)) for camera in change.added]
            tracks = {camera.name: _tracks(camera) for camera in change.moved}
            outputs = self._outlets.prepare(change.outputs, change.outputs_gone)
            classes = {name for lane in (*self._lanes, *lanes) for name in lane.now().classes}
            missing = tuple(unfound(asking_for(settings), classes))
        except CullingError as error:
            log.error("reload_refused", error=str(error))
            self._answer(redact(str(error)), error.exit_code)
            return
        self._prepared = Prepared(settings, change, lanes, tracks, outputs, missing)

    def _answer(self, text: str, code: int = 0) -> None:
        self._reloading = False
        try:
            answer(self._settings.agent.state_dir, text, code)
        except StorageError as error:
            log.warning("reload_not_answered", error=str(error))

    def _take(self, prepared: Prepared) -> None:
        change = prepared.change
        lanes = {lane.name: lane for lane in self._lanes}
        for name in change.removed:
            lanes[name].end_window(final=True)
            lanes[name].flush()
            replace_source(lanes.pop(name).camera, None)
        for camera in change.moved:
            new, regions = self._make_camera(camera), Regions(camera.ignore, camera.zone)
            replace_source(lanes[camera.name].move(new, camera.patient, regions, prepared.tracks[camera.name]), new)
        self._lanes = [*lanes.values(), *prepared.lanes]
        self._outlets.take(prepared.outputs)
        self._settings = self._settings.model_copy(
            update={"camera": prepared.settings.camera, "output": prepared.settings.output}
        )
        self._updater.serve({lane.name: lane.slot for lane in self._lanes})
        self._gauges.watch(lane.name for lane in prepared.lanes)
        for lane in prepared.lanes:
            lane.camera.start()
        for one in prepared.unfound:
            log.warning("classes_unknown", key=one.key, classes=list(one.classes), known=list(one.known))
        log.info("settings_reloaded", change=str(change), cameras=[lane.name for lane in self._lanes])

    # Shutdown

    def _stop_cameras(self) -> None:
        stop_all([lane.camera for lane in self._lanes], lambda: min(STOP_S, self._time_left()))
        self._gauges.export()

    def _time_left(self) -> float:
        return max(0.0, self._deadline - self._clock.monotonic())

    # On other threads

    def _guard(self) -> None:
        """Report threads that hang. A main loop that hangs in a driver can only be ended with the whole process."""
        while not self._over.wait(TICK_S):
            try:
                self._look_after_threads()
            except Exception as error:
                note_failed("guard", self._metrics, error)

    def _look_after_threads(self) -> None:
        stuck = self._watchdog.stuck(self._clock.monotonic())
        for name in set(stuck) - set(self._stuck):
            log.error("thread_stuck", thread=name)
            self._metrics.count("restarts", thread=name)
        self._stuck = stuck
        if MAIN in stuck:
            os._exit(CullingError.exit_code)
        notify.tell(notify.ALIVE)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not has_terminal():  # it was closed: this is no request to reload
            self._on_signal(number, frame)
        else:
            self._reload_asked = True

    def _apply_desired(self, desired: Desired) -> None:
        for lane in self._lanes:
            if lane.name == desired.camera:
                lane.apply(desired)

    def _on_refused(self, reason: str) -> None:
        self._metrics.count("messages_refused", reason=reason)

    def _on_fetched(self, camera: str, how: str) -> None:
        self._metrics.count("models_fetched", camera=camera, how=how)

    def _ready(self) -> tuple[bool, str]:
        if not self._lanes:
            return False, "starting"
        if self._stuck:
            return False, f"stuck: {', '.join(self._stuck)}"
        if self._recorder.failing:
            return False, "the spool cannot be written"
        if self._forwarder.refused:
            return False, f"{REFUSED}; it detects, and frames wait in the spool"
        if self._forwarder.incompatible:
            return False, f"{INCOMPATIBLE}; it detects, and frames wait in the spool"
        waiting = [lane.name for lane in self._lanes if not lane.inferring]
        return (False, f"no detections yet: {', '.join(waiting)}") if waiting else (True, "detecting")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"agent.state_dir: cannot use {folder}: {error.strerror}") from None


def _tracks(camera: CameraSettings) -> Tracks | None:
    return Tracks(camera.name) if camera.track else None
