"""A camera: opened, decoded, and reopened whenever it is lost, on a thread of its own that never waits for the others.

    connecting ─▶ live ◀─▶ frozen         a live source that ends or fails goes back to connecting, after a pause
                   │
                   └─▶ ended | failed     only a file ends; `failed` is a file that cannot be played

Every frame that the decoder delivered (`frames_seen`) is taken from `latest`, or counted in `frames_dropped` at stage
`camera`: `newer` (the student was busy), `max-fps`, `frozen`, `stopped`, `broken` (a defect of ours, or a stream
that trips the decoder in a new way: the camera is reopened as if it had been lost). Frames that the decoder could not
deliver are counted under stage `decode` (see `source.py`), and are not part of `frames_seen`.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import av
import numpy as np
import structlog
from numpy.typing import NDArray

from culling.common.clock import Clock
from culling.common.errors import CameraError
from culling.common.logs import redact
from culling.common.profile.thinner import Thinner
from culling.common.scaler import quarter_turns, scale_picture
from culling.edge.camera.latest import LatestFrame
from culling.edge.camera.pacing import Backoff, Pace, Polling, Timeline
from culling.edge.camera.source import CameraSettings, Source
from culling.edge.camera.stillness import Stillness
from culling.edge.regions import Mask

__all__ = ["Camera", "CameraSettings", "Counters", "Frame", "State"]

log = structlog.get_logger(__name__)

State = Literal["connecting", "live", "frozen", "ended", "failed", "stopped"]

STOP_S = 1.0
"""How long `stop` waits for the thread, which a mute source may hold for longer."""
LOOKED_AT = (180, 320)
"""Grid of pixels picked from each live picture to see whether it still changes, (height, width)."""


class Counters(Protocol):
    """What a camera reports to: `common/metrics.py`'s Metrics."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` to a counter."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    `seq` counts the frames the decoder delivered since the camera's start, and alone gives their order. `pts` is
    seconds since the first frame, and never runs backwards: for a file, its own time without jumps and without the
    seams of a loop; for a live source, the time of arrival, since FFmpeg invents 25 frames a second for one that sends
    no times. `captured` is wall time, seconds since the epoch: the time of arrival, or for a file played at full speed,
    its own clock. `arrived` is monotonic seconds. `turn` counts the counter-clockwise quarter turns that bring
    `picture` upright, from its display matrix; mirroring is not undone.
    """

    camera: str
    seq: int
    pts: float
    captured: float
    arrived: float
    picture: av.VideoFrame
    turn: int = 0

    @property
    def width(self) -> int:
        """Width in pixels, upright."""
        return int(self.picture.height if self.turn % 2 else self.picture.width)

    @property
    def height(self) -> int:
        """Height in pixels, upright."""
        return int(self.picture.width if self.turn % 2 else self.picture.height)

    def rgb(self) -> NDArray[np.uint8]:
        """Return the whole picture, `(height, width, 3)` RGB."""
        return self.input(self.height, self.width)

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the picture scaled to `(height, width, 3)` RGB by the decoder's own scaler."""
        down, across = (width, height) if self.turn % 2 else (height, width)
        return np.ascontiguousarray(np.rot90(scale_picture(self.picture, down, across), self.turn))


class Camera:
    """One source, decoded on a thread of its own into `latest`. `failure` says why the state is `failed`."""

    def __init__(
        self,
        settings: CameraSettings,
        latest: LatestFrame[Frame],
        clock: Clock,
        counters: Counters,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = settings.name
        self.latest = latest
        self.state: State = "connecting"
        self.failure: CameraError | None = None
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._backoff = backoff or Backoff(random.Random())
        self._lossless = settings.patient
        self._paced = not settings.live and settings.pace == "real"
        self._seq = 0
        self._began = clock.now()
        self._first: float | None = None
        self._timeline = Timeline()
        self._pace = Pace()
        self._thinner = Thinner(settings.max_fps)
        self._polling = Polling(settings.max_fps)
        self._stillness = Stillness()
        self._mask = Mask(settings.mask)
        self._fetched = False
        self._defects: set[str] = set()
        self._stopped = threading.Event()
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"camera-{settings.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        for name in ("frames_seen", "decode_errors", "reconnects"):
            self._counters.count(name, 0, camera=self.name)
        self._export("connecting")
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and count the frame that was not taken; returns within about a second.

        No frame is handed over from now on. If FFmpeg waits for a mute source, the thread ends later, after
        `read_timeout_s` or twice `open_timeout_s` at most; it is a daemon and holds nothing that others need.
        """
        self._stopped.set()
        if self.latest.close() is not None:
            self._drop("stopped")
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._change("stopped")

    # The thread

    def _run(self) -> None:
        try:
            if self._settings.live:
                self._play_live()
            else:
                self._play_file()
        except CameraError as error:
            self._fail(error)
        except Exception as error:  # a file is not retried: this camera fails, visibly, and the others go on
            self._fail(CameraError(redact(f"camera {self.name}: its thread broke: {error!r}")))
            raise

    def _play_live(self) -> None:
        while not self._stopped.is_set():
            try:
                with Source(self._settings, self._clock) as source:
                    before = self._seq
                    self._play(source)
                if source.still and self._seq > before:
                    self._stopped.wait(self._polling.pause(self._clock.monotonic()))
                    continue
                problem = f"camera {self.name}: the stream ended"
            except (CameraError, av.FFmpegError) as error:
                problem = redact(str(error))
            except Exception as error:  # a defect must not blind a camera until the next restart
                problem = self._broke(error)
            if not self._stopped.is_set():
                self._change("connecting")
                self._counters.count("reconnects", camera=self.name)
                pause = self._backoff.pause()
                log.warning("camera_lost", camera=self.name, error=problem, retry_s=round(pause, 1))
                self._stopped.wait(pause)

    def _play_file(self) -> None:
        while not self._stopped.is_set():
            before = self._seq
            with Source(self._settings, self._clock) as source:
                self._play(source)
            if self._stopped.is_set():
                return
            if self._seq == before:
                raise CameraError(redact(f"camera {self.name}: {self._settings.url}: it holds no picture"))
            if not self._settings.loop:
                self._change("ended")
                return

    def _play(self, source: Source) -> None:
        self._fetched, paced = source.still, self._paced or source.bursts
        if not source.still:  # pictures that are fetched one by one are looked at together
            self._stillness = Stillness()
        for pictures in source.read(self._lose):
            if self._stopped.is_set():
                return
            for picture in pictures:
                played = self._timeline.advance(picture.time, source.frame_s)
                if paced:
                    self._stopped.wait(self._pace.delay(played, self._clock.monotonic()))
                if self._stopped.is_set():
                    return
                self._counters.count("frames_seen", camera=self.name)
                try:
                    self._show(self._frame(picture, played))
                except Exception:
                    self._drop("broken")
                    raise
                self._backoff.reset()

    def _show(self, frame: Frame) -> None:
        frozen = self._settings.live and self._stillness.frozen(_look(frame.picture), frame.arrived)
        self._change("frozen" if frozen else "live")
        self._pass_on(frame, frozen)

    def _frame(self, picture: av.VideoFrame, played: float) -> Frame:
        captured = self._began + played if self._lossless else self._clock.now()
        turn, arrived = quarter_turns(picture), self._clock.monotonic()
        self._first = arrived if self._first is None else self._first
        pts = arrived - self._first if self._settings.live else played
        frame = Frame(self.name, self._seq, pts, captured, arrived, picture, turn)
        self._seq += 1
        return frame

    def _pass_on(self, frame: Frame, frozen: bool) -> None:
        due, self._fetched = self._fetched, False  # what is fetched when it is due is not thinned again
        if frozen:
            self._drop("frozen")
        elif not (due or self._thinner.wants(frame.pts if self._lossless else frame.arrived)):
            self._drop("max-fps")
        else:
            self._hand_over(frame)

    def _hand_over(self, frame: Frame) -> None:
        frame = replace(frame, picture=self._mask.hide(frame.picture, frame.turn))
        lost = self.latest.put_when_free(frame) if self._lossless else self.latest.put(frame)
        if lost is not None:
            self._drop("stopped" if lost is frame else "newer")

    # What others see

    def _broke(self, error: Exception) -> str:
        """Count a defect, log its traceback if it is the first of its kind, and return it as text."""
        self._counters.count("restarts", thread=self._thread.name)
        if (kind := type(error).__name__) not in self._defects:
            self._defects.add(kind)
            log.error("camera_broke", camera=self.name, exc_info=error)
        return redact(repr(error))

    def _fail(self, error: CameraError) -> None:
        self.failure = error
        log.error("camera_failed", camera=self.name, error=str(error))
        self._change("failed")

    def _change(self, state: State) -> None:
        """Go to `state`, unless the camera has ended already."""
        with self._changing:
            if state == self.state or self.state in ("ended", "failed", "stopped"):
                return
            self.state = state
            self._export(state)
        log.info("camera_state_changed", camera=self.name, state=state)

    def _export(self, state: State) -> None:
        for each in get_args(State):
            self._counters.set("camera_state", float(each == state), camera=self.name, state=each)

    def _drop(self, reason: str) -> None:
        self._counters.count("frames_dropped", camera=self.name, stage="camera", reason=reason)

    def _lose(self, reason: str) -> None:
        if reason != "after-damage":
            self._counters.count("decode_errors", camera=self.name)
        self._counters.count("frames_dropped", camera=self.name, stage="decode", reason=reason)


def _look(picture: av.VideoFrame) -> NDArray[np.uint8]:
    # Single pixels rather than averages, in which sensor noise would vanish.
    return scale_picture(picture, *LOOKED_AT, "gray", "POINT")
