"""Selected frames → JPEG → spool, on a thread of its own, so that the camera path never waits for a disk.

The queue is bounded: a frame that finds it full is dropped at once and counted, as is a frame that the disk did not
take. Frames of a file that is played at full speed are never dropped: the next is taken only when there is room. The
ends of windows travel in the same queue, so that they come after the held frames that they decide on.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import msgspec
import structlog

from culling.common.clock import Clock
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.process.survival import note_failed
from culling.common.selection.sampling import Draw
from culling.common.selection.selector import Released
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.ignored import Places
from culling.common.wire.messages import MAX_JPEG, Beside
from culling.edge.camera.camera import Frame
from culling.edge.model.shadow import Keep
from culling.edge.scoring import Score
from culling.edge.spool.rows import Leaving
from culling.edge.spool.spool import Spool
from culling.edge.spool.traced import Traced
from culling.edge.watchdog import Watchdog

log = structlog.get_logger(__name__)

STUCK_S = 30.0
"""Far longer than it takes to encode and write one frame."""


@dataclass(frozen=True)
class Selected:
    """A frame to keep; `found` is in its pixels. A `held` frame waits for the end of its window, with its `draw`.
    `ignored` are the places in which nothing was found; `echo` is what it tells as an audit (`wire/echo.py`).

    `left` is called with the JPEG's size once the frame may leave, or 0 if it was lost (`Selector.note_bytes`).
    `beside` is called once a frame that may become an audit is written, and has a shadow look at it, if there is one.
    """

    frame: Frame
    found: Detections
    score: Score
    reason: str
    model_id: str
    held: bool
    left: Callable[[int], None]
    draw: Draw | None = None
    ignored: Places = ()
    beside: Callable[[Keep], None] = lambda keep: None
    echo: bytes = b""


@dataclass(frozen=True)
class WindowEnd:
    """At `at`, those held frames of `camera` may leave that `released` says, and the others are dropped; `left` is
    called for each of them, as for `Selected`.
    """

    camera: str
    released: Released
    at: float
    left: Callable[[int], None]

    @property
    def count(self) -> int:
        """How many frames may leave."""
        return self.released.frames + self.released.audits


@dataclass(frozen=True)
class DrawSize:
    """So many frames took part in the draw of `camera` in the window so far."""

    camera: str
    among: int


_Item: TypeAlias = Selected | WindowEnd | DrawSize


class Recorder:
    """Owns the thread that writes frames to the spool; `room` is notified whenever that takes one from the queue.

    `failing` is True while the disk refuses writes; `failure` is what ended the thread, if anything did.
    """

    def __init__(
        self,
        spool: Spool,
        metrics: Metrics,
        clock: Clock,
        watchdog: Watchdog,
        depth: int,
        quality: int,
        room: threading.Condition | None = None,
        traced: Traced | None = None,
    ) -> None:
        self.failing = False
        self.failure: BaseException | None = None
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._watchdog = watchdog
        self._depth = depth
        self._room = room or threading.Condition()
        self._quality = quality
        self._traced = traced
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether a frame offered now would be dropped."""
        return self._queue.qsize() >= self._depth

    def offer(self, selected: Selected, patient: bool = False) -> None:
        """Queue a frame without ever waiting; when the queue is full the frame is dropped and counted.

        A `patient` caller checks `full` before it takes a frame, so that its frame always finds a place.
        """
        if self.full and not patient:
            self._lose(selected, "queue-full")
        else:
            self._queue.put(selected)

    def end_window(self, end: WindowEnd) -> None:
        """Queue the end of a window behind the frames already offered."""
        self._queue.put(end)

    def tally(self, tally: DrawSize) -> None:
        """Queue what is to be kept of a draw, behind the frames already offered."""
        self._queue.put(tally)

    def drain(self, within_s: float) -> bool:
        """Write what is queued and end the thread; False if that took longer than `within_s` seconds.

        What is still queued then is dropped and counted.
        """
        self._queue.put(None)
        if self._thread.ident is not None:  # an agent that could not start ends it too
            self._thread.join(within_s)
        if lost := self._give_up():
            log.warning("queued_frames_dropped", frames=lost)
        return not self._thread.is_alive()

    def _give_up(self) -> int:
        """Drop what the thread has not reached; return how many frames that were."""
        lost = 0
        with suppress(queue.Empty):
            while True:
                if isinstance(item := self._queue.get_nowait(), Selected):
                    self._lose(item, "stopped")
                    lost += 1
        self._queue.put(None)
        return lost

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._watchdog.watch("recorder", STUCK_S, self._clock.monotonic())
                try:
                    self._record(item)
                except Exception as error:  # one item costs itself
                    self._broke(item, error)
                self._watchdog.release("recorder")
        except BaseException as failure:  # it ends the agent too: nothing here can be retried
            self.failure = failure

    def _record(self, item: _Item) -> None:
        try:
            if isinstance(item, Selected):
                with self._room:
                    self._room.notify_all()
                self._store(item)
            elif isinstance(item, WindowEnd):
                self._release(item)
            else:
                self._spool.tally(item.camera, item.among)
        except StorageError as error:
            if not self.failing:
                log.warning("recording_failed", error=str(error))
            self.failing = True
            self._forgo(item, "storage")
        else:
            self.failing = False

    def _broke(self, item: _Item, error: Exception) -> None:
        camera = item.frame.camera if isinstance(item, Selected) else item.camera
        note_failed("recorder", self._metrics, error, camera=camera)
        try:
            self._forgo(item, "broken")
        except Exception as another:
            note_failed("recorder", self._metrics, another, camera=camera)

    def _store(self, item: Selected) -> None:
        jpeg = encode_jpeg(item.frame.rgb(), self._quality)
        if len(jpeg) > MAX_JPEG:
            self._lose(item, "oversized")
            return
        frame = item.frame
        seq = self._spool.add(
            frame,
            found=item.found,
            score=item.score,
            reason=item.reason,
            model_id=item.model_id,
            jpeg=jpeg,
            held=item.held,
            draw=item.draw,
            ignored=item.ignored,
            echo=item.echo,
        )
        self._metrics.count("frames_spooled", camera=frame.camera)
        if item.draw is not None:
            item.beside(partial(self._stand_beside, seq))
        if not item.held:
            item.left(len(jpeg))
            self._metrics.count("frames_forwarded", camera=frame.camera, reason=item.reason)
            if self._traced is not None:
                leaving = Leaving(item.reason, len(jpeg), self._spool.boot, seq, frame.captured)
                self._traced.left(frame.camera, [leaving], self._clock.now())

    def _stand_beside(self, seq: int, found: Beside) -> bool:
        return self._spool.stand_beside(seq, msgspec.msgpack.encode(found))

    def _release(self, end: WindowEnd) -> None:
        left = self._spool.release(end.camera, end.released, end.at)
        _note_sizes(end, [one.size for one in left])
        for reason, frames in Counter(one.reason for one in left).items():
            self._metrics.count("frames_forwarded", frames, camera=end.camera, reason=reason)
        if self._traced is not None:
            self._traced.left(end.camera, left, self._clock.now())

    def _forgo(self, item: _Item, reason: str) -> None:
        """Do without an item that was not written; the budget hears of what it was to wait for."""
        if isinstance(item, Selected):
            self._lose(item, reason)
        elif isinstance(item, WindowEnd):
            _note_sizes(item, [])

    def _lose(self, item: Selected, reason: str) -> None:
        if not item.held:
            item.left(0)
        self._metrics.count("frames_dropped", camera=item.frame.camera, stage="recorder", reason=reason)


def _note_sizes(end: WindowEnd, sizes: Sequence[int]) -> None:
    # Held frames may be evicted before their window ends; the budget waits for the size of every frame it released.
    for size in (*sizes, *[0] * (end.count - len(sizes))):
        end.left(size)
