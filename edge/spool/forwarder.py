"""The link to the cloud, on one thread that owns the socket: spooled frames up, models down, heartbeats both ways.

A frame leaves the spool only on its Ack, or when the cloud says that it never takes it, which is counted. The camera
path never waits for this thread, however long the cloud is away. `protocol.SendWindow` decides what to send and when to
resend it; the updater decides what to fetch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import structlog

from culling.common.clock import Clock
from culling.common.errors import ProtocolError, StorageError
from culling.common.metrics import Metrics
from culling.common.process.survival import note_failed
from culling.common.wire.earlier import in_words_of_0_2
from culling.common.wire.messages import (
    Ack,
    CameraState,
    Desired,
    FromEdge,
    HardFrame,
    Heartbeat,
    Hello,
    LivePicture,
    Look,
    Message,
    ModelChunk,
    ModelOffer,
    Nack,
    Refused,
    SwapReport,
    Verdict,
    Welcome,
    pack,
    unpack,
)
from culling.common.wire.protocol import Beats, FrameKey, SendWindow
from culling.common.wire.transport import EdgeSocket
from culling.common.wire.versions import SPEAKS, agreed
from culling.edge.cascade.line import Line
from culling.edge.model.updater import Updater
from culling.edge.settings import LinkSettings
from culling.edge.spool.spool import Spool, Spooled
from culling.edge.spool.told import hard_frame
from culling.edge.spool.traced import Traced
from culling.edge.view.abroad import Abroad
from culling.edge.watchdog import Watchdog

log = structlog.get_logger(__name__)

POLL_S = 0.1
"""How long a turn waits for a message: a new frame in the spool waits no longer to be sent."""
BURST = 4
"""How many frames leave between two looks at what came. Acks that are not read by then go down with the connection,
so that an edge which takes long over a frame would get nowhere on a line that often breaks."""
BROKEN_PAUSE_S, MAX_BROKEN_TURNS = 1.0, 60
"""After a turn that broke the next one waits a moment; after so many in a row there is nothing left to go on with."""
STUCK_S = 60.0
"""Far longer than a turn takes while socket and disk work."""
REFUSED = "refused by the cloud: this edge was revoked, or was never enrolled there: enroll it again"
"""What a person is told of an edge that is `refused`."""
INCOMPATIBLE = "edge and cloud speak no version of the protocol in common: upgrade the older one, as the log says"
"""What a person is told of an edge that is `incompatible`."""
REVOKED = "revoked"
REFUSALS = frozenset(
    {REVOKED, "busy", "camera-removed", "empty", "malformed", "model-damaged", "not-your-camera", "oversized",
     "unknown-model", "unknown-type", "version", "beyond-total", "payload-missing", "payload-unexpected"}
)  # fmt: skip
"""Why the cloud refuses messages; what else it may say one day is counted as "other"."""
MAX_WINDOW = 64
"""In-flight frames are kept in memory for resending, so this bounds the window that the cloud grants."""


@dataclass(frozen=True)
class _Done:
    """A frame that the spool can forget: acked, or given up for the reason `refused`; a `broken` one is quarantined."""

    camera: str
    refused: str | None = None
    broken: bool = False


class Throttle:
    """A token bucket: bytes may leave at `rate` per second, on average over about a second; 0 means no limit."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._credit = float(rate)
        self._at = now

    def open(self, now: float) -> bool:
        """Return whether a message may leave now; one that is larger than the credit leaves a debt."""
        self._credit = min(self._rate, self._credit + (now - self._at) * self._rate)
        self._at = now
        return self._rate == 0 or self._credit > 0

    def spend(self, size: int) -> None:
        """Note that `size` bytes left."""
        self._credit -= size


class Forwarder:
    """Owns the thread and the socket. `states` returns the cameras' part of a heartbeat; `failure` is what ended the
    thread, if anything did; `storage_failing` is True while the spool cannot be read or changed. What only a person can
    change: `refused` is True while the cloud refuses this edge, `incompatible` says why the two cannot talk, or is "".
    """

    def __init__(
        self,
        settings: LinkSettings,
        boot: str,
        spool: Spool,
        updater: Updater,
        states: Callable[[], list[CameraState]],
        metrics: Metrics,
        clock: Clock,
        watchdog: Watchdog,
        on_desired: Callable[[Desired], None] = lambda _: None,
        abroad: Abroad | None = None,
        traced: Traced | None = None,
        line: Line | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        self._settings = settings
        self._boot = boot
        self._spool = spool
        self._updater = updater
        self._states = states
        self._metrics = metrics
        self._clock = clock
        self._watchdog = watchdog
        self._on_desired = on_desired
        self._abroad = abroad or Abroad(False, list, metrics, clock)
        self._traced = traced
        self._line = line
        self._socket = EdgeSocket(
            settings.endpoint, settings.server_key, settings.secret_key.get_secret_value(), on_event=self._on_link
        )
        self._window = SendWindow()
        self._flying: dict[FrameKey, Spooled] = {}
        self._done: dict[FrameKey, _Done] = {}
        self._throttle = Throttle(settings.upload_bytes_per_s, clock.monotonic())
        self._beats = Beats(settings.heartbeat_s, clock.monotonic())
        self._next_age = clock.monotonic()
        self._welcomed = self._heard = self.storage_failing = self.refused = False
        self._verdicts = False  # whether the cloud gives any
        self._plainly = False  # whether the cloud is of 0.2 or before, and refuses fields that it does not know
        self.incompatible = ""
        self._deadline: float | None = None
        self._more = False  # whether the last turn ended since a burst of frames left
        self._broken_turns = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, within_s: float) -> bool:
        """Send what is ready, for at most `within_s` seconds, and end the thread; False when it did not end in time."""
        self._deadline = self._clock.monotonic() + within_s
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(within_s + 5)
        if stuck := self._thread.is_alive():
            log.warning("forwarder_timed_out", frames=self._spool.counts().ready)
        return not stuck

    @property
    def linked(self) -> bool:
        """Whether the cloud has welcomed us on this connection, and was heard from lately."""
        return self._welcomed and self._beats.alive(self._clock.monotonic())

    def _run(self) -> None:
        try:
            self._watchdog.watch("forwarder", STUCK_S, self._clock.monotonic())
            while not self._finished():
                self._watchdog.beat("forwarder", self._clock.monotonic())
                self._survive_turn()
            if self.linked:
                self._send(Heartbeat(self._boot, self._states()))
        except BaseException as failure:  # it ends the agent too: nothing here can be retried
            self.failure = failure
        finally:
            self._watchdog.release("forwarder")
            self._socket.close()

    def _survive_turn(self) -> None:
        """Take a turn; what it throws is one item's, unless every turn does: then the agent ends with it."""
        try:
            self._turn()
            self._broken_turns = 0
        except Exception as error:
            self._broken_turns += 1
            if self._broken_turns >= MAX_BROKEN_TURNS:
                raise
            note_failed("forwarder", self._metrics, error)
            self._ending.wait(BROKEN_PAUSE_S)

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        nothing_left = not self._flying and not self._spool.counts().ready
        return nothing_left or self.refused or bool(self.incompatible) or self._clock.monotonic() >= self._deadline

    def _turn(self) -> None:
        self._beat(self._clock.monotonic())
        if self.linked:
            self._send_about_models()
        self._receive_all()
        if self._line is not None:
            self._line.open = self.linked and self._verdicts
            self._send_escalations(self._line)
        self._more = False
        try:
            self._forget_done()
            if self.linked:
                self._more = self._send_frames(self._clock.monotonic())
                self._send_live(self._clock.monotonic())
            if self._export_age():
                self.storage_failing = False
        except StorageError as error:  # a full disk pauses forwarding; the next turn retries
            if not self.storage_failing:
                log.warning("forwarding_paused", error=str(error))
            self.storage_failing = True
        self._metrics.set("connected", float(self.linked))
        self._metrics.set("refused", float(self.refused))
        self._metrics.set("incompatible", float(bool(self.incompatible)))

    def _export_age(self) -> bool:
        """Export, once a heartbeat, how long the oldest frame has waited; return whether it was time for that.

        Raises `StorageError` when the spool cannot be read.
        """
        if self._clock.monotonic() < self._next_age:
            return False
        self._next_age = self._clock.monotonic() + self._settings.heartbeat_s
        oldest = self._spool.oldest() if self._spool.counts().ready else None
        age = 0.0 if oldest is None else max(0.0, self._clock.now() - oldest)
        self._metrics.set("oldest_unacked_seconds", age)
        return True

    # Up

    def _beat(self, now: float) -> None:
        """Send Hello until welcomed, then heartbeats; Hello again if the cloud was silent since the last one."""
        if not self._socket.connected or not self._beats.due(now):
            return
        if self._welcomed and self._heard:
            self._send(Heartbeat(self._boot, self._states()))
        else:
            self._greet()
        self._heard = False

    def _greet(self) -> None:
        self._send(Hello(f"culling {version('culling')}", self._boot, self._states(), SPEAKS))

    def _send_frames(self, now: float) -> bool:
        """Send what may leave now, those due again first; return whether it ended since a burst of them left."""
        for _ in range(BURST):
            if again := self._window.next((), now):
                frame = self._flying[again[0]]
            elif self._window.room and self._throttle.open(now) and (fresh := self._unsent()):
                frame = fresh
            else:
                return False
            if not self._send_frame(frame, now):
                return False
        return True

    def _send_escalations(self, line: Line) -> None:
        """Send what is asked before anything else, since a record waits for it. What cannot leave now never does."""
        while line.open and (asked := line.next()) is not None:
            escalate, jpeg = asked
            if not self._throttle.open(self._clock.monotonic()):
                line.give_up(escalate.camera, escalate.seq, "upload-limit")
                continue
            try:
                sent = self._send(escalate, jpeg)
            except ProtocolError as error:
                line.give_up(escalate.camera, escalate.seq, error.reason)
                continue
            if sent:
                self._throttle.spend(len(jpeg))
            else:
                line.give_up(escalate.camera, escalate.seq, "queue-full")

    def _send_live(self, now: float) -> None:
        """Send what somebody looks at through the cloud, unless a hard frame waits or is on its way."""
        for camera in self._abroad.due():
            if self._flying or self._spool.counts().ready:
                self._abroad.skip(camera, "hard-frames")
            elif not self._throttle.open(now):
                self._abroad.skip(camera, "upload-limit")
            elif (found := self._abroad.picture(camera)) is not None:
                self._send_picture(*found)

    def _send_picture(self, picture: LivePicture, jpeg: bytes) -> None:
        try:
            sent = self._send(picture, jpeg)
        except ProtocolError as error:
            self._abroad.skip(picture.camera, error.reason)
            return
        if not sent:
            self._abroad.skip(picture.camera, "queue-full")
            return
        self._throttle.spend(len(jpeg))
        self._abroad.sent(picture.camera)

    def _unsent(self) -> Spooled | None:
        """Return the oldest ready frame that is neither in flight nor done; None if there is none."""
        if not self._spool.counts().ready:
            return None
        known = {seq for _, seq in (*self._flying, *self._done)}
        return next(iter(self._spool.ready(1, without=known)), None)

    def _send_frame(self, spooled: Spooled, now: float) -> bool:
        """Send a frame; return False when nothing more can leave now."""
        if not self._throttle.open(now):
            return False
        key = (spooled.boot, spooled.seq)
        try:
            message = self._message(spooled)
            if message is None:
                self._done[key] = _Done(spooled.camera, broken=True)
                return True
            if not self._send(message, spooled.jpeg):
                return False
        except ProtocolError as error:  # larger than any message may be: spooled under other limits
            log.warning("frame_given_up", camera=spooled.camera, seq=spooled.seq, error=str(error))
            self._done[key] = _Done(spooled.camera, error.reason)
            return True
        self._throttle.spend(len(spooled.jpeg))
        self._window.sent(key, now)
        self._flying[key] = spooled
        if self._traced is not None:
            self._traced.sent(key, self._clock.now())
        return True

    def _message(self, spooled: Spooled) -> HardFrame | None:
        """Return what the cloud is told of a frame, None for a row that makes no message.

        Raises ProtocolError for one that is larger than any message may be.
        """
        try:
            message = hard_frame(spooled)
            # What the cloud cannot read, it cannot refuse by name either: it would be sent again and again.
            unpack(pack(message, spooled.jpeg), "edge")
        except Exception as error:  # its detections or features are not what this version reads
            if isinstance(error, ProtocolError) and error.reason == "oversized":
                raise
            note_failed("forwarder", self._metrics, error, camera=spooled.camera, seq=spooled.seq)
            return None
        return message

    def _forget_done(self) -> None:
        """Delete the frames that are done; one that the disk keeps for now is not sent again either."""
        for key, done in list(self._done.items()):
            if done.broken:
                self._spool.quarantine(*key)
            elif done.refused is not None:
                self._spool.give_up(*key, reason=done.refused)
            elif self._spool.delete(*key):
                self._metrics.count("frames_acked", camera=done.camera)
            del self._done[key]

    def _send_about_models(self) -> None:
        try:
            messages = self._updater.outgoing()
        except Exception as error:
            note_failed("updater", self._metrics, error)
            return
        for message in messages:
            if self._send(message) and isinstance(message, SwapReport):
                self._updater.sent(message)
                self._metrics.count("swaps", camera=message.camera, outcome=message.outcome)
                self._metrics.observe("swap_gap_seconds", message.gap_ms / 1000, camera=message.camera)

    def _send(self, message: FromEdge, payload: bytes | None = None) -> bool:
        parts = pack(in_words_of_0_2(message) if self._plainly else message, payload)
        sent = self._socket.send(parts)
        if sent:
            self._metrics.count("bytes_sent", sum(map(len, parts)))
        return sent

    # Down

    def _receive_all(self) -> None:
        parts = self._socket.poll(0 if self._more else POLL_S)
        while parts is not None:
            self._metrics.count("bytes_received", sum(map(len, parts)))
            self._beats.heard(self._clock.monotonic())
            self._heard = True
            try:
                self._take(*unpack(parts, "cloud"))
            except ProtocolError as error:
                self._metrics.count("messages_refused", reason=error.reason)
                log.warning("message_refused", reason=error.reason, error=str(error))
            except Exception as error:
                self._metrics.count("messages_refused", reason="broken")
                note_failed("forwarder", self._metrics, error)
            parts = self._socket.poll(0)

    def _take(self, message: Message, payload: bytes | None) -> None:
        match message:
            case Welcome():
                self._welcome(message)
            case Ack():
                self._acked(message)
            case Nack():
                self._nacked(message)
            case ModelOffer():
                self._updater.offered(message)
            case ModelChunk():
                self._updater.chunk(message, payload or b"")
            case Desired():
                self._on_desired(message)
            case Look():
                self._abroad.look(message)
            case Verdict() if self._line is not None:
                self._line.take(message)
            case Refused():
                self._refused(message.reason)

    def _refused(self, text: str) -> None:
        word = text.partition(":")[0]
        reason = word if word in REFUSALS else "other"
        self._metrics.count("refusals", reason=reason)
        if reason == REVOKED and not self.refused:
            self._welcomed, self.refused = False, True  # greeted again and again: it may have been enrolled again
            log.error("edge_refused", reason=text, todo=REFUSED)
        elif reason == "malformed" and not (self._welcomed or self._plainly):  # how a strict one answers our greeting
            self._plainly = True
            log.info("greeted_as_before", reason=text)
            self._greet()
        elif reason == "version" and not self._welcomed:
            self._part(text)
        elif reason != REVOKED:
            log.warning("message_refused_by_cloud", reason=text)

    def _part(self, reason: str) -> None:
        """Note that no version is spoken by both; the cloud is greeted as ever, since either may be upgraded."""
        self._welcomed = False
        if self.incompatible != reason:
            self.incompatible = reason
            log.error("edge_incompatible", reason=reason)

    def _welcome(self, welcome: Welcome) -> None:
        self.refused = False
        try:
            protocol = agreed(SPEAKS, welcome.speaks)
        except ProtocolError as error:
            self._part(f"{error.reason}: {error}")
            return
        self.incompatible = ""
        self._verdicts = welcome.verdicts
        if not self._welcomed:
            self._welcomed = True
            self._window.reopen(min(welcome.window, MAX_WINDOW), self._clock.monotonic())
            self._updater.reopen()
            log.info("cloud_welcomed", software=welcome.software, window=welcome.window, protocol=protocol)

    def _acked(self, ack: Ack) -> None:
        key = (ack.boot, ack.seq)
        if not self._window.ack(key, min(ack.window, MAX_WINDOW), self._clock.monotonic()):
            return
        spooled = self._flying.pop(key)
        self._done[key] = _Done(spooled.camera)
        self._metrics.observe("ack_seconds", max(0.0, self._clock.now() - spooled.captured), camera=spooled.camera)
        if self._traced is not None:
            self._traced.ended(spooled, self._clock.now())

    def _nacked(self, nack: Nack) -> None:
        key = (nack.boot, nack.seq)
        if key not in self._flying:
            return
        camera = self._flying[key].camera
        self._metrics.count("frames_nacked", camera=camera, reason=nack.reason)
        log.warning("frame_nacked", camera=camera, seq=nack.seq, reason=nack.reason, retry=nack.retry)
        if self._window.nack(key, nack.retry, self._clock.monotonic()):
            spooled = self._flying.pop(key)
            self._done[key] = _Done(camera, "refused")
            if self._traced is not None:
                self._traced.ended(spooled, self._clock.now(), nack.reason)

    def _on_link(self, event: str) -> None:
        now = self._clock.monotonic()
        log.info("link_changed", event_name=event)
        self._welcomed = self._plainly = False
        if event == "connected":
            self._beats = Beats(self._settings.heartbeat_s, now)
        elif event in ("refused", "handshake-failed"):
            self._metrics.count("handshake_failures")
            self.refused = self.refused or event == "refused"
