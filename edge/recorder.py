"""Selected frames → JPEG → spool, on a thread of its own, so that the camera path never waits for a disk.

The queue is bounded: a frame that finds it full is refused at once and counted, as is a frame that the disk did not
take. Only a frame of a file that is played as fast as it goes is never refused: no other is asked for until there is
room. The ends of windows travel the same queue, so that they meet the held frames in order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from culling.common.clock import Clock
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import MAX_JPEG
from culling.edge.camera.camera import Frame
from culling.edge.scoring import Score
from culling.edge.spool import Spool
from culling.edge.watchdog import Watchdog

log = structlog.get_logger(__name__)

STUCK_S = 30.0


@dataclass(frozen=True)
class Selected:
    """A frame to keep; `found` is in its pixels. `held` ones wait for the end of their window.

    `left` is told the JPEG's size when the frame is free to leave, 0 when it was lost (`Selector.note_bytes`).
    """

    frame: Frame
    found: Detections
    score: Score
    reason: str
    model_id: str
    held: bool
    left: Callable[[int], None]


@dataclass(frozen=True)
class WindowEnd:
    """The best `count` held frames of `camera` may leave at `at`, its others are dropped; `left` is told `count` times,
    as for `Selected`.
    """

    camera: str
    count: int
    at: float
    left: Callable[[int], None]


class Recorder:
    """Owns the thread that writes frames to the spool; `room` is notified whenever it takes one from the queue.

    `failing` is True while the disk takes nothing; `failure` is what ended the thread, if anything did.
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
        self._queue: queue.SimpleQueue[Selected | WindowEnd | None] = queue.SimpleQueue()
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

        A `patient` caller asks whether it is `full` before it takes a frame, and then always finds a place.
        """
        if self.full and not patient:
            self._lose(selected, "queue-full")
        else:
            self._queue.put(selected)

    def end_window(self, end: WindowEnd) -> None:
        """Queue the end of a window behind the frames already offered."""
        self._queue.put(end)

    def drain(self, within_s: float) -> bool:
        """Write what is queued and end the thread; False when that was not done within `within_s` seconds.

        What is then still queued is counted as dropped.
        """
        self._queue.put(None)
        self._thread.join(within_s)
        if lost := self._give_up():
            log.warning("recorder_not_drained", frames=lost)
        return not self._thread.is_alive()

    def _give_up(self) -> int:
        """Empty the queue of what the thread has not come to; return how many frames that were."""
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
                self._record(item)
                self._watchdog.release("recorder")
        except BaseException as failure:  # the agent ends with it: nothing here can be retried
            self.failure = failure

    def _record(self, item: Selected | WindowEnd) -> None:
        try:
            if isinstance(item, Selected):
                with self._room:
                    self._room.notify_all()
                self._store(item)
            else:
                self._release(item)
        except StorageError as error:
            if not self.failing:
                log.warning("recording_failed", error=str(error))
            self.failing = True
            if isinstance(item, Selected):
                self._lose(item, "storage")
            else:
                _tell(item, [])
        else:
            self.failing = False

    def _store(self, item: Selected) -> None:
        jpeg = encode_jpeg(item.frame.rgb(), self._quality)
        if len(jpeg) > MAX_JPEG:
            self._lose(item, "oversized")
            return
        self._spool.add(
            item.frame,
            found=item.found,
            score=item.score,
            reason=item.reason,
            model_id=item.model_id,
            jpeg=jpeg,
            held=item.held,
        )
        self._metrics.count("frames_spooled", camera=item.frame.camera)
        if not item.held:
            item.left(len(jpeg))
            self._metrics.count("frames_forwarded", camera=item.frame.camera, reason=item.reason)

    def _release(self, end: WindowEnd) -> None:
        sizes = self._spool.release(end.camera, end.count, end.at)
        _tell(end, sizes)
        self._metrics.count("frames_forwarded", len(sizes), camera=end.camera, reason="hard")

    def _lose(self, item: Selected, reason: str) -> None:
        if not item.held:
            item.left(0)
        self._metrics.count("frames_dropped", camera=item.frame.camera, stage="recorder", reason=reason)


def _tell(end: WindowEnd, sizes: Sequence[int]) -> None:
    # Held frames may be gone before their window ends; the budget expects to hear of as many as it let go.
    for size in (*sizes, *[0] * (end.count - len(sizes))):
        end.left(size)
