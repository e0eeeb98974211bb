"""The cloud's end of the wire, on one thread that owns the socket: frames in, models out, counters kept.

A frame is acknowledged only after it is durable; those that come together are made so together, since it is the disk
that each of them would wait for. A repeat is acknowledged again and not stored again. What an edge may
not do is refused with a reason and counted, and the link stays up: its CURVE key says who it is, and the roster which
cameras are its own. Answers carry the window, which shrinks while the disk or the teacher cannot keep up.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import structlog

from culling.cloud.link.admission import Room, check_frame
from culling.cloud.link.arrivals import Arrivals
from culling.cloud.link.escalations import LOOK_S, Escalations
from culling.cloud.link.live import LiveLink
from culling.cloud.link.offers import Offers
from culling.cloud.link.readings import Reading, Readings, Said, is_newer
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import Arrival, FrameStore
from culling.cloud.store.history import counts, rise
from culling.cloud.store.index import Index
from culling.cloud.store.registry import ModelFiles, Registry
from culling.cloud.store.roster import Members, Roster, Told, Words
from culling.cloud.store.rounds import Rounds
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import Clock
from culling.common.errors import ProtocolError, StorageError
from culling.common.metrics import Metrics
from culling.common.process.survival import surviving
from culling.common.wire.echo import decode
from culling.common.wire.messages import (
    Ack,
    CameraState,
    Escalate,
    FromCloud,
    HardFrame,
    Heartbeat,
    Hello,
    LivePicture,
    Message,
    ModelRequest,
    Nack,
    Refused,
    SwapReport,
    Welcome,
    pack,
    plain,
    unpack,
)
from culling.common.wire.transport import CloudSocket
from culling.common.wire.versions import SPEAKS, Speaks, agreed

if TYPE_CHECKING:
    from culling.common.traces.spans import About, Traces

log = structlog.get_logger(__name__)

POLL_S = 0.2
"""How long to wait for a message before looking whether to stop."""

TICK_S = 1.0
"""A published model and an operator's request reach the edge within this time."""

AT_ONCE = 32
"""Messages taken in a row before the frames among them are stored: a full window of one edge."""

MODELS = 4096
"""Of so many models is it remembered how many classes they find, and so many pieces may be waited for."""

SILENT_S = 30.0
"""An edge that has been silent this long counts as gone; it sends a heartbeat every few seconds."""

FOR_EVER = ("seq-reused", "camera-removed", "purged")
"""Why a frame is refused however often it comes."""


class Ingest:
    """`failure` is what ended the thread, if anything did; `problem` is what keeps it from storing now, or "".

    `others` are the words of all ingests that share the index, None for the only one: an edge may reach another one
    after each reconnect.
    """

    def __init__(
        self,
        settings: CloudSettings,
        curve_secret: str,
        index: Index,
        frames: FrameStore,
        files: ModelFiles,
        metrics: Metrics,
        clock: Clock,
        others: Words | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        self.problem = ""
        self._latest: dict[str, Told] = {}
        self._settings = settings
        self._roster = Roster(index)
        self._registry = Registry(index)
        self._rounds = Rounds(index)
        self._metrics = metrics
        self._clock = clock
        self._members = Members()
        self._newer = False  # than those that are being read
        self._revoked: set[str] = set()  # edges that were looked for since then, and are not there
        self._room = Room(settings.service, settings.store.quota_bytes)
        self._arrivals = Arrivals(frames, self._room)
        self._readings = Readings(settings, index, frames, metrics, clock, others)
        publish, share = settings.publish, settings.waves.shadow
        self._offers = Offers(index, files, publish.reoffer_s, clock, self._send, publish.deltas, share)
        self._live = LiveLink(index, metrics, clock, self._send)
        verdicts = settings.labelling.verdicts_per_minute
        self._escalations = Escalations(index, verdicts, metrics, clock, self._send)
        self._unsaved: dict[str, Told] = {}
        self._saving: dict[str, Told] = {}
        self._heard: dict[str, float] = {}
        self._traces = traces
        self._elsewhere: set[str] = set()
        self._wanted: dict[tuple[str, str, int], ModelRequest] = {}
        self._boots: dict[str, str] = {}
        self._speaks: dict[str, Speaks | None] = {}
        self._classes = lru_cache(MODELS)(self._count_classes)
        self._next_tick = self._next_hand_out = clock.monotonic()
        self._stopping = threading.Event()
        self._socket = CloudSocket(
            settings.service.endpoint, curve_secret, self._roster.allowed, on_event=self._on_link
        )
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    @property
    def latest(self) -> dict[str, Told]:
        """What was said of each camera last, and when, in seconds since the epoch; a copy."""
        return self._latest.copy()  # one step of the interpreter: no message can come in between

    @property
    def endpoint(self) -> str:
        """The address listened on."""
        return self._socket.endpoint

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and free the port."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._ask()
            self._readings.wait()  # before it is known how much room there is, no frame could be let in
            while not self._stopping.is_set():
                with surviving("ingest", self._metrics, step="tick"):
                    self._tick()
                self._take_what_came()
        except BaseException as failure:  # what is no fault of a single item: the port is gone, memory is out
            self.failure = failure
        finally:
            with suppress(StorageError):
                self._readings.close(self._saving | self._unsaved)
            self._offers.close()
            self._socket.close()

    # Every second

    def _tick(self) -> None:
        """Have the index read, once in a while, and act on what was read."""
        if self._readings.idle and self._clock.monotonic() >= self._next_tick:
            self._ask()
        try:
            if (reading := self._readings.take()) is None:
                return
            self._learn(reading)
            for edge_key in self._alive():
                self._tell(edge_key)
            self._live.tick(self._carrier)
            if reading.unwritten is not None:
                raise reading.unwritten
            if self._room.full:
                raise StorageError(f"{self._settings.data_dir}: the disk is at its reserve, no frame is stored")
        except StorageError as error:
            self._troubled(error)
            return
        if self.problem:
            log.info("storing_resumed")
        self.problem = ""
        self._metrics.set("storage_failing", 0)

    def _ask(self) -> None:
        self._next_tick = self._clock.monotonic() + TICK_S
        self._saving, self._unsaved = self._saving | self._unsaved, {}  # what could not be written is written now
        self._room.begin_count()
        self._newer, self._revoked = False, set()
        self._readings.ask(Said(self.latest, self._saving, dict(self._room.counts), len(self._alive())))

    def _learn(self, reading: Reading) -> None:
        if reading.unwritten is None:
            self._saving = {}
        self._room.counted(reading.free_bytes, reading.counts)
        if not self._newer:
            self._members = reading.members
        self._offers.learn(reading.live, reading.desired, reading.shadows)
        self._hear_others(reading.news)

    def _hear_others(self, news: Mapping[str, Told]) -> None:
        """Take what edges told another ingest since they told this one, and forget those that went there."""
        for camera, word in news.items():
            if is_newer(word, self._latest.get(camera)):
                self._latest[camera] = word
                self._elsewhere.add(camera)
                self._offers.forget(camera)
        for edge_key in list(self._heard) if self._elsewhere else ():
            if (mine := self._members.cameras.get(edge_key)) and mine <= self._elsewhere:
                del self._heard[edge_key]

    def _alive(self) -> list[str]:
        now = self._clock.monotonic()
        return [edge_key for edge_key, heard in self._heard.items() if now - heard < SILENT_S]

    def _troubled(self, error: StorageError) -> None:
        if not self.problem:
            log.error("storing_failed", error=str(error))
        self.problem = str(error)
        self._metrics.set("storage_failing", 1)

    # Every message

    def _take_what_came(self) -> None:
        """Take the next message and those behind it; store their frames once no message waits, or there are many."""
        wait_s = LOOK_S if self._escalations.waiting else POLL_S
        for _ in range(AT_ONCE):
            if (received := self._socket.poll(wait_s)) is None:
                break
            self._take(*received)
            wait_s = 0.0
            if self._arrivals.full:
                break
        if self._wanted and self._clock.monotonic() >= self._next_hand_out:
            with surviving("ingest", self._metrics, step="hand out"):
                self._hand_out_again()
        with surviving("ingest", self._metrics, step="escalations"):
            self._answer_who_waits()
        with surviving("ingest", self._metrics, step="store"):  # an unanswered frame comes again
            self._store_arrivals()

    def _answer_who_waits(self) -> None:
        try:
            self._escalations.turn()
        except StorageError as error:  # the edge's own answer stands
            self._troubled(error)

    def _take(self, edge_key: str, parts: list[bytes]) -> None:
        self._metrics.count("bytes_received", sum(map(len, parts)))
        try:
            if edge_key not in self._members.cameras and edge_key not in self._revoked:
                self._members, self._newer = self._roster.members(), True  # it may have been enrolled since
            if edge_key not in self._members.cameras:
                self._revoked.add(edge_key)
                raise ProtocolError("revoked", f"edge {self._members.name(edge_key)} is no longer enrolled")
            message, payload = unpack(parts, "edge")
            self._heard[edge_key] = self._clock.monotonic()
            with surviving("ingest", self._metrics, edge=self._members.name(edge_key), message=type(message).__name__):
                self._handle(edge_key, message, payload or b"")
        except ProtocolError as error:
            self._refuse(edge_key, error.reason, str(error))
        except StorageError as error:
            self._troubled(error)
            self._refuse(edge_key, "busy", "the cloud cannot read or write its state at the moment")

    def _handle(self, edge_key: str, message: Message, payload: bytes) -> None:
        match message:
            case HardFrame():
                self._frame(edge_key, message, payload)
            case Hello():
                self._greet(edge_key, message)
            case Heartbeat():
                self._keep_states(edge_key, message.cameras, greeting=False)
                self._welcome(edge_key)
            case ModelRequest():
                self._own(edge_key, message.camera)
                self._hand_out(edge_key, message)
            case SwapReport():
                self._swap(edge_key, message)
            case LivePicture(camera=camera):
                self._own(edge_key, camera)
                self._live.take(message, payload, self._classes(camera, message.model_id))
            case Escalate(camera=camera):
                self._own(edge_key, camera)
                self._escalations.take(edge_key, message, payload, self._registry.classes(camera, message.model_id))

    def _greet(self, edge_key: str, hello: Hello) -> None:
        """Take who an edge says that it is. Raises ProtocolError where it speaks no version of ours."""
        protocol = agreed(hello.speaks, SPEAKS)
        self._speaks[edge_key] = hello.speaks
        self._keep_states(edge_key, hello.cameras, greeting=True)
        self._welcome(edge_key)
        if self._boots.get(edge_key) != hello.boot:  # an edge greets again whenever we were silent
            self._boots[edge_key] = hello.boot
            edge = self._members.name(edge_key)
            log.info("edge_greeted", edge=edge, software=hello.software, boot=hello.boot, protocol=protocol)

    def _frame(self, edge_key: str, frame: HardFrame, jpeg: bytes) -> None:
        arrival = Arrival(edge_key, frame, jpeg, self._clock.now())
        try:
            self._own(edge_key, frame.camera)
            self._metrics.count("frames_received", camera=frame.camera)
            check_frame(frame, jpeg, partial(self._classes, frame.camera))
            arrival = replace(arrival, frame=self._without_damage(frame))
            if arrival.name in self._arrivals:  # a repeat: the outcome of the first must be known
                self._store_arrivals()
            self._arrivals.add(arrival)
        except ProtocolError as error:
            self._nack(arrival, error.reason, retry=False)
        except StorageError as error:
            self._troubled(error)
            self._nack(arrival, "busy", retry=True)

    def _without_damage(self, frame: HardFrame) -> HardFrame:
        """Return a frame without its echo where that cannot be read; the frame counts as one that tells none."""
        try:
            if frame.echo:
                decode(frame.echo, self._classes(frame.camera, frame.model_id))
        except ProtocolError as error:
            self._metrics.count("echoes_dropped", camera=frame.camera)
            log.warning("echo_dropped", camera=frame.camera, boot=frame.boot, seq=frame.seq, error=str(error))
            return msgspec.structs.replace(frame, echo=b"")
        return frame

    def _count_classes(self, camera: str, model_id: str) -> int:
        """Return how many classes a camera's model finds; of one that is not known, those that it is read by."""
        return len(self._registry.classes(camera, model_id)) or len(CLASSES)

    def _store_arrivals(self) -> None:
        """Store the frames that wait, and answer each."""
        started, tried = self._clock.monotonic(), 0
        for arrival, outcome in self._arrivals.store():
            match outcome:
                case "stored":
                    self._stored(arrival, self._clock.monotonic() - started)
                    self._ack(arrival)
                    tried += 1
                case "duplicate":
                    self._metrics.count("frames_duplicate", camera=arrival.frame.camera)
                    self._ack(arrival)
                case StorageError():
                    self._troubled(outcome)
                    self._nack(arrival, "busy", retry=True)
                    tried += 1
                case _:
                    self._nack(arrival, outcome, retry=outcome not in FOR_EVER)
        if tried:
            self._room.note_pace(self._clock.monotonic() - started, tried)

    def _stored(self, arrival: Arrival, seconds: float) -> None:
        frame = arrival.frame
        self._metrics.count("frames_stored", camera=frame.camera)
        self._metrics.observe("store_seconds", seconds)
        log.debug("frame_stored", camera=frame.camera, boot=frame.boot, seq=frame.seq, reason=frame.reason)
        if self._traces is not None:
            about: About = {"camera": frame.camera, "reason": frame.reason, "loss": frame.loss, "model": frame.model_id}
            self._traces.span("cloud.store", arrival.name, arrival.received, self._clock.now(), about)

    def _keep_states(self, edge_key: str, states: list[CameraState], greeting: bool) -> None:
        for state in states:
            if not self._members.owns(edge_key, state.camera):  # its other cameras go on
                self._metrics.count("messages_refused", reason="not-your-camera")
                if greeting:
                    log.warning("camera_not_enrolled", edge=self._members.name(edge_key), camera=state.camera)
                continue
            self._offers.heard(state, greeting)
            self._count_pace(state)
            self._latest[state.camera] = self._unsaved[state.camera] = (state, self._clock.now())
            self._elsewhere.discard(state.camera)
        self._tell(edge_key)

    def _count_pace(self, state: CameraState) -> None:
        """Count what a camera's student took and missed since its edge last told: nobody may be able to scrape it."""
        if (last := self._latest.get(state.camera)) is not None:
            risen = rise(counts(last[0]), counts(state))
            for name in ("taken", "missed"):
                self._metrics.count(f"frames_{name}", risen[name], camera=state.camera)

    def _hand_out(self, edge_key: str, request: ModelRequest) -> None:
        """Answer who asked for a piece of a model, later where that is not there yet."""
        if (piece := self._offers.piece(request)) is not None:
            self._send(edge_key, *piece)
        elif len(self._wanted) < MODELS:
            self._wanted[edge_key, request.camera, request.offset] = request
        else:
            raise ProtocolError("busy", "too many edges wait for a model")

    def _hand_out_again(self) -> None:
        self._next_hand_out = self._clock.monotonic() + POLL_S
        wanted, self._wanted = self._wanted, {}
        for (edge_key, _, _), request in wanted.items():
            try:
                self._hand_out(edge_key, request)
            except ProtocolError as error:
                self._refuse(edge_key, error.reason, str(error))
            except StorageError as error:
                self._troubled(error)
                self._refuse(edge_key, "busy", "the cloud cannot read its models at the moment")

    def _swap(self, edge_key: str, swap: SwapReport) -> None:
        self._own(edge_key, swap.camera)
        if swap.outcome != "live" and self._registry.withdraw(swap.camera, swap.model_id, "rejected"):
            log.warning("model_rejected", camera=swap.camera, model_id=swap.model_id, reason=swap.reason)
        if not self._registry.report(swap, self._clock.now()):
            return
        self._metrics.count("swap_reports", camera=swap.camera, outcome=swap.outcome)
        if swap.outcome == "rolled-back":
            self._metrics.count("rollbacks", camera=swap.camera, by="edge")
        log.info("swap_reported", camera=swap.camera, model_id=swap.model_id, outcome=swap.outcome)
        newest = self._rounds.newest_capture(swap.camera, swap.model_id)
        if swap.outcome == "live" and newest is not None:
            self._metrics.observe("model_lag_seconds", max(0.0, swap.at - newest))

    def _own(self, edge_key: str, camera: str) -> None:
        if not self._members.owns(edge_key, camera):
            if camera in self._members.removed:
                raise ProtocolError("camera-removed", f"camera {camera} was removed: take it out of the settings")
            raise ProtocolError("not-your-camera", f"camera {camera} is not one of edge {self._members.name(edge_key)}")

    def _carrier(self, camera: str) -> str | None:
        """Return the edge that sends live pictures of a camera, None where none does or it is not connected."""
        told = self._latest.get(camera)
        if told is None or not told[0].through_cloud:
            return None
        return next((edge_key for edge_key in self._alive() if self._members.owns(edge_key, camera)), None)

    # Answers

    def _tell(self, edge_key: str) -> None:
        self._offers.tell(edge_key, self._members.cameras.get(edge_key, frozenset()))

    def _welcome(self, edge_key: str) -> None:
        told = SPEAKS if self._speaks.get(edge_key) else None  # one of 0.2 or before refuses what it does not know
        answers = told is not None and self._escalations.allowed
        self._send(edge_key, Welcome(f"culling {version('culling')}", self._room.window(), told, answers))

    def _ack(self, arrival: Arrival) -> None:
        frame = arrival.frame
        self._send(arrival.edge_key, Ack(frame.boot, frame.seq, self._room.window(frame.camera)))

    def _nack(self, arrival: Arrival, reason: str, retry: bool) -> None:
        edge_key, frame = arrival.edge_key, arrival.frame
        camera = frame.camera if self._members.owns(edge_key, frame.camera) else "unknown"
        self._metrics.count("frames_refused", camera=camera, reason=reason)
        edge = self._members.name(edge_key)
        log.warning("frame_refused", edge=edge, camera=camera, boot=frame.boot, seq=frame.seq, reason=reason)
        self._send(edge_key, Nack(frame.boot, frame.seq, plain(reason), retry))

    def _refuse(self, edge_key: str, reason: str, message: str) -> None:
        self._metrics.count("messages_refused", reason=reason)
        log.warning("message_refused", edge=self._members.name(edge_key), reason=reason, error=message)
        self._send(edge_key, Refused(plain(f"{reason}: {message}")))

    def _send(self, edge_key: str, message: FromCloud, payload: bytes | None = None) -> bool:
        parts = pack(message, payload)
        sent = self._socket.send(edge_key, parts)
        if sent:
            self._metrics.count("bytes_sent", sum(map(len, parts)))
        return sent

    def _on_link(self, event: str) -> None:
        if event in ("refused", "handshake-failed"):
            self._metrics.count("handshake_failures")
