"""One output at work: a bounded queue that the camera path drops records into, and a thread that sends them.

`offer` never waits: where the queue is full, the oldest record goes, counted. The thread keeps a batch until it is
taken, and tries again for ever with growing pauses; what came meanwhile waits behind it in the queue.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog

from culling.common.clock import Clock
from culling.common.detections import Batch
from culling.common.errors import CullingError
from culling.common.logs import redact
from culling.common.metrics import Metrics
from culling.common.process.console import counted
from culling.common.process.survival import note_failed
from culling.edge.camera.pacing import Backoff
from culling.edge.output.choice import Choice
from culling.edge.output.seen import Seen
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import DownError, RefusedError, Sink

log = structlog.get_logger(__name__)

TEND_S = 1.0
"""How often a sink is looked after, or opened again where no record waits."""
STALLED_S = 10.0
"""A sink that works on one batch for so long counts as down."""
DROPS_S = 600.0
"""An output is in trouble for so long after a record was dropped."""
SERIES = ("output_up", "output_waiting")


class Outlet:
    """Owns the thread, which owns the sink. `problem` says why it is down, "" while it is up."""

    def __init__(
        self, settings: OutputSettings, sink: Sink, metrics: Metrics, clock: Clock, backoff: Backoff | None = None
    ) -> None:
        self.name, self.cameras, self.classes = settings.name, settings.cameras, settings.classes
        self.problem = "not opened yet"
        self._refusal = ""
        self._choice = Choice(settings)
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff or Backoff(random.Random())
        self._depth = settings.queue
        self._queue: deque[Seen] = deque()
        self._turn = threading.Condition()
        self._closing = False
        self._open = False
        self._retry_at = self._tend_at = clock.monotonic()
        self._busy_since: float | None = None
        self._dropped = 0
        self._dropped_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"output-{self.name}", daemon=True)
        sink.lost = self._lose

    def start(self) -> None:
        """Start the thread, and export the output's series."""
        self._metrics.count("output_records", 0, output=self.name)
        self._metrics.count("output_retries", 0, output=self.name)
        self._lose(0, "queue-full")
        self._metrics.follow("output_up", lambda: float(self.up), output=self.name)
        self._metrics.follow("output_waiting", lambda: float(len(self._queue)), output=self.name)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether records are taken."""
        since = self._busy_since
        return not self.problem and (since is None or self._clock.monotonic() - since < STALLED_S)

    @property
    def trouble(self) -> str:
        """What is wrong with it: why it is down, and how many records it has dropped where some were lately; or ""."""
        down = [] if self.up else [f"down: {self.problem or f'nothing was taken for {STALLED_S:g} s'}"]
        lately = self._clock.monotonic() - self._dropped_at < DROPS_S
        return "; ".join([*down, *([f"{counted(self._dropped, 'record')} dropped since the start"] if lately else [])])

    def offer(self, seen: Seen) -> None:
        """Queue a frame of the camera path if this output tells of it; never waits for anything but a moment's lock."""
        if self._choice.takes(seen):
            self._put(seen)

    def due(self, camera: str, captured: float) -> bool:
        """Return whether a frame of that time may be told of; where it is, `offer_due` takes it once it is known."""
        return self._choice.due(camera, captured)

    def offer_due(self, seen: Seen) -> None:
        """As `offer`, for a frame that was `due` before it was known what is told of it."""
        if self._choice.tells(seen):
            self._put(seen)

    def _put(self, seen: Seen) -> None:
        with self._turn:
            self._queue.append(seen)
            full = len(self._queue) > self._depth
            if full:
                self._queue.popleft()
            self._turn.notify()
        if full:
            self._lose(1, "queue-full")

    def close(self, within_s: float) -> None:
        """Send what is queued if that can be done at once, and end the thread; what is left after that is dropped."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        if self._thread.ident is not None:  # one that waits for its predecessor has not begun
            self._thread.join(within_s)
        self._drop_queue()
        for series in SERIES:
            self._metrics.forget(series, output=self.name)

    # The thread

    def _run(self) -> None:
        self._guarded(self._tend, 0)
        while True:
            batch = self._gather()
            if batch:
                self._deliver(batch)
            elif self._closing:
                break
            if self._clock.monotonic() >= self._tend_at:
                self._guarded(self._tend, 0)
        self._shut()

    def _gather(self) -> list[Seen]:
        """Return the next records to send; none when it is time to look after the sink, or to end."""
        with self._turn:
            if not self._queue and not self._closing:
                self._turn.wait(TEND_S)
            if self._queue and self._sink.gather_s:
                self._turn.wait_for(lambda: len(self._queue) >= self._sink.most or self._closing, self._sink.gather_s)
            return [self._queue.popleft() for _ in range(min(len(self._queue), self._sink.most))]

    def _deliver(self, frames: list[Seen]) -> None:
        records = self._choice.records(frames)
        batch = Batch(id=uuid.uuid4().hex, records=tuple(records))
        while self._wait_to_retry():
            if self._guarded(lambda: self._send(batch), len(records)):
                return
        self._lose(len(records), "stopped")
        self._drop_queue()

    def _guarded(self, act: Callable[[], None], records: int) -> bool:
        """Do one thing with the sink; return False if it is to be tried again. What can't be retried is counted."""
        self._busy_since = self._clock.monotonic()
        try:
            act()
        except DownError as error:
            self._fell(error, error.after_s)
            return False
        except RefusedError as error:
            self._note_refusal(error)
            self._lose(records, "refused")
        except Exception as error:  # one batch costs itself
            note_failed("output", self._metrics, error, output=self.name)
            self._fell(CullingError(repr(error)))
            self._lose(records, "broken")
        finally:
            self._busy_since = None
        return True

    def _send(self, batch: Batch) -> None:
        self._reopen()
        self._sink.send(batch)
        self._rose()  # first: whoever sees a count finds what goes with it
        self._metrics.count("output_records", len(batch.records), output=self.name)

    def _tend(self) -> None:
        self._tend_at = self._clock.monotonic() + TEND_S
        if self._open:
            self._sink.tend()
        elif self._clock.monotonic() >= self._retry_at:
            self._reopen()
            self._rose()

    def _reopen(self) -> None:
        if not self._open:
            self._sink.open()
            self._open = True

    def _wait_to_retry(self) -> bool:
        """Wait until a sink that failed is to be tried again; False when the output is to end first."""
        pause = self._retry_at - self._clock.monotonic()
        if self._open or pause <= 0:
            return True
        with self._turn:
            return not self._turn.wait_for(lambda: self._closing, pause)

    def _rose(self) -> None:
        if self.problem:
            log.info("output_opened", output=self.name, where=self._sink.where)
        self.problem = ""
        self._busy_since = None
        self._backoff.reset()

    def _fell(self, error: CullingError, after_s: float = 0.0) -> None:
        pause = max(self._backoff.pause(), after_s)
        self._retry_at = self._clock.monotonic() + pause
        self._note(error, round(pause, 1))
        self._metrics.count("output_retries", output=self.name)
        self._shut()

    def _note(self, error: CullingError, retry_s: float | None = None) -> None:
        """Log a problem that is a new one: one that lasts does not fill the log."""
        if (problem := redact(str(error))) != self.problem:
            log.warning("output_failed", output=self.name, error=problem, retry_s=retry_s)
        self.problem = problem

    def _note_refusal(self, error: RefusedError) -> None:
        if (refusal := redact(str(error))) != self._refusal:
            log.warning("output_batch_refused", output=self.name, error=refusal)
        self._refusal = refusal

    def _shut(self) -> None:
        self._open = False
        with suppress(OSError, CullingError):
            self._sink.close()

    def _drop_queue(self) -> None:
        with self._turn:
            left = len(self._queue)
            self._queue.clear()
        if left:
            self._lose(left, "stopped")

    def _lose(self, records: int, reason: str) -> None:
        if records:
            self._dropped += records
            self._dropped_at = self._clock.monotonic()
        self._metrics.count("output_records_dropped", records, output=self.name, reason=reason)
