"""One camera's cascade: which frames are asked about, and the records that wait for answers. Used by the main loop.

Records leave in the order of their frames. One that was asked about waits for its verdict, until its deadline; those
behind it wait with it, no longer than that, since each is younger. Where nothing is asked, nothing waits.

Every way in which an answer can go wrong ends the same: the student's stands, and what became of it is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from culling.common.clock import Clock
from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.messages import Verdict, from_wire
from culling.common.wire.protocol import PerMinute
from culling.edge.camera.camera import Frame
from culling.edge.cascade.line import Line
from culling.edge.cascade.settings import CascadeSettings
from culling.edge.output.seen import Seen

MEMORY = 500
"""Frames among which the unsure ones are the worst: a share of them is some hundred at the default."""
LEAST = 20
"""Before so many were seen, nobody can say which of them are the worst: none is asked about."""
HELD = 1024
"""Records of a camera that may wait: half a minute of 30 frames a second, a few hundred kilobytes."""
MOST_MISSED, PAUSE_S = 3, 60.0
"""After so many deadlines in a row nothing is asked for a while, and again if the next one goes by too: a teacher that
is gone, or too slow, would hold up every record of the camera for nothing."""
REMEMBERED = 256
"""Frames that were asked about lately: a verdict on one of them was late, or came before."""


@dataclass(frozen=True)
class Answer:
    """What the `teacher` of that name found in a frame, labels by the student's classes."""

    found: Detections
    teacher: str


@dataclass
class _Record:
    """A record that waits: for a verdict until `until`, or, without one, for those before it. `to` are its outputs."""

    seen: Seen
    to: frozenset[str]
    number: int = 0
    asked: float = 0.0
    until: float | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class Leaving:
    """A record that waits no longer, the outputs that are due it, and the answer that it goes out with, if any."""

    seen: Seen
    to: frozenset[str]
    answer: Answer | None


class Unsure:
    """Whether a frame is among the worst `share` of the last ones of its student. Free of I/O."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._worths: deque[float] = deque(maxlen=MEMORY)

    def forget(self) -> None:
        """Begin anew: the worths of another student do not compare."""
        self._worths.clear()

    def takes(self, worth: float) -> bool:
        """Take the worth of the next frame; return whether its student is unsure, compared with those before.

        One in which nothing was found, with a worth of 0, never is: nor are frames that are all alike.
        """
        before = np.asarray(self._worths)
        self._worths.append(worth)
        if len(before) < LEAST or worth <= 0:
            return False
        return bool(worth > np.quantile(before, 1.0 - self._share))


class Cascade:
    """Holds the records of the camera of that name."""

    def __init__(self, settings: CascadeSettings, camera: str, line: Line, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._camera = camera
        self._line = line
        self._metrics = metrics
        self._clock = clock
        self._unsure = Unsure(settings.share)
        self._allowance = PerMinute(settings.per_minute)
        self._held: deque[_Record] = deque()
        self._waiting: dict[int, _Record] = {}
        self._over: dict[int, str] = {}
        self._missed = 0
        self._paused_until = float("-inf")

    @property
    def holding(self) -> bool:
        """Whether a record waits."""
        return bool(self._held)

    @property
    def full(self) -> bool:
        """Whether a record that came now would push the oldest one out."""
        return len(self._held) >= HELD

    def forget(self) -> None:
        """Take that another student looks at the frames from now on."""
        self._unsure.forget()

    def hold(self, frame: Frame, seen: Seen, worth: float, to: frozenset[str]) -> bool:
        """Take the record of the next frame, which is due at the outputs `to`; return whether it waits."""
        record = _Record(seen, to)
        unsure = self._unsure.takes(worth)
        asked = unsure and bool(to) and self._ask(frame, record)
        if not (asked or self._held):
            return False
        self._held.append(record)
        return True

    def take(self, verdict: Verdict) -> None:
        """Take a verdict on a frame of this camera. One that no record waits for is counted, and dropped."""
        mine = verdict.boot == self._line.boot
        if not mine or (record := self._waiting.get(verdict.seq)) is None:
            reason = self._over.get(verdict.seq, "unasked") if mine else "unasked"
            self._metrics.count("verdicts_dropped", camera=self._camera, reason=reason)
            return
        answer, why = self._read(verdict, record.seen)
        if answer is None:
            self._stand(record, why)
            return
        record.answer = answer
        self._missed = 0
        self._end(record, "repeat")
        self._metrics.count("verdicts_taken", camera=self._camera)
        self._metrics.observe("verdict_seconds", self._clock.monotonic() - record.asked, camera=self._camera)

    def leaving(self) -> Iterator[Leaving]:
        """Yield the records that wait no longer, in the order of their frames."""
        now = self._clock.monotonic()
        while self._held:
            first = self._held[0]
            if first.until is not None and len(self._held) <= HELD:
                if now < first.until:
                    return
                self._stand(first, "deadline")
                self._missed += 1
                if self._missed >= MOST_MISSED:
                    self._paused_until = now + PAUSE_S
            yield self._next()

    def flush(self, reason: str) -> Iterator[Leaving]:
        """Yield every record that waits; with those that have no answer yet the student's stands, for that reason."""
        while self._held:
            if self._held[0].until is not None:
                self._stand(self._held[0], reason)
            yield self._next()

    def _next(self) -> Leaving:
        first = self._held.popleft()
        if first.until is not None:  # too many wait behind it
            self._stand(first, "queue-full")
        return Leaving(first.seen, first.to, first.answer)

    def _ask(self, frame: Frame, record: _Record) -> bool:
        now = self._clock.monotonic()
        until = now + self._settings.deadline_s
        if not self._line.open:  # first: what is not sent takes nothing of the allowance
            return self._skip("no-line")
        if now < self._paused_until:
            return self._skip("unanswered")
        if self._line.full:
            return self._skip("queue-full")
        if not self._allowance.take(now):
            return self._skip("allowance")
        number = self._line.ask(frame, record.seen.model, until)
        record.number, record.asked, record.until = number, now, until
        self._waiting[number] = record
        self._metrics.count("escalations", camera=self._camera)
        return True

    def _skip(self, why: str) -> bool:
        self._metrics.count("escalations_skipped", camera=self._camera, reason=why)
        return False

    def _read(self, verdict: Verdict, seen: Seen) -> tuple[Answer | None, str]:
        """Return the answer in a verdict, or None and why there is none."""
        if verdict.detections is None:
            known = verdict.reason in ("upload-limit", "unreadable", "oversized", "queue-full")
            return None, verdict.reason if known else "refused"
        try:
            found = from_wire(verdict.detections, len(seen.classes))
        except ProtocolError:
            return None, "malformed"
        return Answer(found, verdict.teacher or "teacher"), ""

    def _stand(self, record: _Record, why: str) -> None:
        """Let the student's answer stand: a verdict that comes after this is too late."""
        self._end(record, "late")
        self._metrics.count("verdicts_missed", camera=self._camera, reason=why)

    def _end(self, record: _Record, later: str) -> None:
        """Wait no longer for a verdict on a frame; another one that comes is dropped as `later`."""
        record.until = None
        del self._waiting[record.number]
        self._over[record.number] = later
        while len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]
