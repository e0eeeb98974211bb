"""The service's end of the cascade: what edges ask the teacher goes to whoever labels, and the answers back to them.

Answers are looked for in the index while something was asked, since the teacher works in another process, or on another
machine. What this ingest asked is only in its memory: after a restart the edge's own answer stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from culling.cloud.labelling.escalated import Escalated
from culling.cloud.store.index import Index
from culling.common.clock import Clock
from culling.common.errors import ProtocolError
from culling.common.metrics import Metrics
from culling.common.wire.codec import jpeg_size
from culling.common.wire.messages import Escalate, FromCloud, Verdict
from culling.common.wire.protocol import PerMinute

log = structlog.get_logger(__name__)

LOOK_S = 0.05
"""How often answers are looked for while something waits: far less than a teacher takes, and one read each."""

TIDY_S = 5.0
"""A picture that nobody answered in time is kept no longer than this."""


@dataclass(frozen=True)
class _Open:
    edge_key: str
    asked: Escalate
    until: float


class Escalations:
    """Used by the ingest's thread. `per_minute` frames of a camera are asked about at most; with 0 none is."""

    def __init__(
        self, index: Index, per_minute: int, metrics: Metrics, clock: Clock, send: Callable[[str, FromCloud], bool]
    ) -> None:
        self.allowed = per_minute > 0
        self._escalated = Escalated(index, clock)
        self._per_minute = per_minute
        self._metrics = metrics
        self._clock = clock
        self._send = send
        self._allowances: dict[str, PerMinute] = {}
        self._open: dict[int, _Open] = {}
        self._next_look = self._next_tidy = clock.monotonic()

    @property
    def waiting(self) -> bool:
        """Whether an edge waits for an answer."""
        return bool(self._open)

    def take(self, edge_key: str, asked: Escalate, jpeg: bytes, classes: Sequence[str]) -> None:
        """Have the teacher asked; `classes` are those of the student, none where its model is not known.

        Raises ProtocolError where the picture is not what the message says, StorageError where it cannot be written.
        """
        camera, now = asked.camera, self._clock.monotonic()
        self._metrics.count("escalations_received", camera=camera)
        if jpeg_size(jpeg) != (asked.width, asked.height):
            raise ProtocolError("wrong-size", f"the picture has another size than {asked.width} x {asked.height}")
        if not classes:
            self._refuse(edge_key, asked, "unknown-model")
        elif not self._allowances.setdefault(camera, PerMinute(self._per_minute)).take(now):
            self._refuse(edge_key, asked, "allowance")
        else:
            sha256 = hashlib.sha256(jpeg).hexdigest()
            told = (camera, asked.boot, asked.seq, sha256, jpeg, classes, asked.within_s)
            if (name := self._escalated.ask(*told)) is None:  # its first one is answered
                self._metrics.count("escalations_unanswered", camera=camera, reason="repeat")
            else:
                self._open[name] = _Open(edge_key, asked, now + asked.within_s)

    def turn(self) -> None:
        """Send the answers that came, and give up what is overdue. Raises StorageError."""
        now = self._clock.monotonic()
        if self._open and now >= self._next_look:
            self._next_look = now + LOOK_S
            answers = self._escalated.answered(self._open)
            for name, answer in answers.items():
                one = self._open.pop(name)
                if answer.detections is None:
                    self._refuse(one.edge_key, one.asked, answer.reason)
                    continue
                asked = one.asked
                verdict = Verdict(asked.camera, asked.boot, asked.seq, answer.detections, answer.teacher)
                self._send(one.edge_key, verdict)
                self._metrics.count("verdicts_sent", camera=asked.camera)
            for name in [name for name, one in self._open.items() if one.until <= now]:
                self._metrics.count(
                    "escalations_unanswered", camera=self._open.pop(name).asked.camera, reason="overdue"
                )
        if self.allowed and now >= self._next_tidy:
            self._next_tidy = now + TIDY_S
            self._escalated.tidy()

    def _refuse(self, edge_key: str, asked: Escalate, reason: str) -> None:
        """Say at once that there will be no answer: the record waits for nothing else."""
        self._metrics.count("escalations_unanswered", camera=asked.camera, reason=reason)
        self._send(edge_key, Verdict(asked.camera, asked.boot, asked.seq, reason=reason))
