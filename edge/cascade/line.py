"""What passes between the cameras' lanes, which hold records, and the forwarder, which has the link to the cloud.

    main loop          ask ─▶ frame         takes a place of a few, unless they are `full`
    forwarder thread   frame ─▶ JPEG ─▶ Escalate        the encoder works here, never in the camera path
                       Verdict ─▶ came                  which wakes the main loop

A frame that cannot be sent after all gets a Verdict of this side's own, without an answer: its record waits no longer.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import count

import av

from culling.common.clock import Clock
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import MAX_VERDICT_S, Escalate, Verdict
from culling.edge.camera.camera import Frame

MOST = 8
"""Frames of all cameras that wait for the link: they are held at full size, and one that waits long comes too late."""

MOST_CAME = 1024
"""Far more than are asked for between two turns of the main loop; a cloud that says more is not listened to."""


@dataclass(frozen=True)
class _Asked:
    number: int
    frame: Frame
    model_id: str
    until: float


class Line:
    """`open` is whether the cloud is there and answers, which the forwarder says. Safe from any thread.

    `boot` names this start of the agent, `room` is notified of each verdict.
    """

    def __init__(self, boot: str, quality: int, clock: Clock, room: threading.Condition) -> None:
        self.open = False
        self.boot = boot
        self._quality = quality
        self._clock = clock
        self._room = room
        self._numbers = count(1)
        self._asked: deque[_Asked] = deque()
        self._came: deque[Verdict] = deque(maxlen=MOST_CAME)

    # The main loop

    @property
    def full(self) -> bool:
        """Whether so many frames wait that no more may be asked about."""
        return len(self._asked) >= MOST

    def ask(self, frame: Frame, model_id: str, until: float) -> int:
        """Have the teacher asked about a frame, to answer by `until`, monotonic seconds; return the question's number.

        No other question of this agent has the number, of whichever camera it is: frames are numbered anew when a
        camera gets another source. Call it while the line is not `full`.
        """
        number = next(self._numbers)
        self._asked.append(_Asked(number, frame, model_id, until))
        return number

    @property
    def heard(self) -> bool:
        """Whether a verdict has come that was not taken yet."""
        return bool(self._came)

    def came(self) -> list[Verdict]:
        """Take the verdicts that came, in their order."""
        return [self._came.popleft() for _ in range(len(self._came))]

    # The forwarder

    def next(self) -> tuple[Escalate, bytes] | None:
        """Return what is to be sent next, with its JPEG; None where nothing is, or nothing that could come in time."""
        while self._asked:
            asked = self._asked.popleft()
            left = asked.until - self._clock.monotonic()
            if left <= 0:
                continue  # its record has gone out, or does so now
            frame = asked.frame
            try:
                jpeg = encode_jpeg(frame.rgb(), self._quality)
            except (av.FFmpegError, ValueError):
                self.give_up(frame.camera, asked.number, "unreadable")
                continue
            within_s, captured = min(left, MAX_VERDICT_S), max(0.0, frame.captured)
            named = (frame.camera, self.boot, asked.number)
            return Escalate(*named, captured, within_s, asked.model_id, frame.width, frame.height), jpeg
        return None

    def give_up(self, camera: str, number: int, reason: str) -> None:
        """Say that there will be no answer to a question."""
        self.take(Verdict(camera, self.boot, number, reason=reason))

    def take(self, verdict: Verdict) -> None:
        """Take a verdict, for whoever waits for it."""
        self._came.append(verdict)
        with self._room:
            self._room.notify_all()
