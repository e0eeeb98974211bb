"""A model that runs beside the one in use before it may take over: what it finds goes nowhere but into audits.

It looks at a share of the frames, and at those that may become audits, on the builder's thread, in lulls, and only
while few wait there; what finds no place is left out and counted. So the camera path never waits for it, however slow
it is. One that would be too slow for the camera is rejected by the rules of probation, as is one that fails, or that
finds nothing while the one in use does.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import av

from culling.common.clock import Clock
from culling.common.errors import CullingError, ModelError, StorageError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.wire.messages import Beside, to_wire
from culling.edge.model.builder import Builder
from culling.edge.model.probation import NOTHING, ModelComparison, Probation, ProbationRules
from culling.edge.model.student import Picture, Student

MOST_WAITING = 4
"""Frames that wait for it at most, each a decoded picture; of those that only show how it fares, one."""

Keep = Callable[[Beside], bool]
"""Keeps what it found in a frame; returns whether the frame is still there. May raise StorageError."""


class Shadow:
    """`told` is called with what became of each frame that it was to look at: `ran`, or why it did not count: `busy`,
    `failed`, `unreadable`, `late` or `storage`. `failed` is called once, with why it is to go; `settled` once it has
    run on as many frames as a probation has. `ran` counts the frames that it looked at.
    """

    def __init__(
        self,
        student: Student,
        share: float,
        builder: Builder,
        clock: Clock,
        rules: ProbationRules,
        rng: random.Random,
        told: Callable[[str], None],
        failed: Callable[[str], None],
        settled: Callable[[], None],
    ) -> None:
        self.student = student
        self.ran = 0
        self._share = share
        self._builder = builder
        self._clock = clock
        self._rules = rules
        self._rng = rng
        self._told = told
        self._failed = failed
        self._settled = settled
        self._probation = Probation(rules, clock.monotonic())
        self._lock = threading.Lock()
        self._waiting = 0
        self._over = False

    def end(self) -> None:
        """Let it look at nothing any more; what waits for it is dropped."""
        self._over = True

    def observe(self, frame: Picture, in_use: Student) -> None:
        """Have it look at a frame if that is drawn; never waits."""
        if self._rng.random() < self._share:
            self._queue(frame, in_use, None, 1)

    def look(self, frame: Picture, in_use: Student, keep: Keep) -> None:
        """Have it look at a frame that may become an audit, and `keep` what it finds; never waits."""
        self._queue(frame, in_use, keep, MOST_WAITING)

    def _queue(self, frame: Picture, in_use: Student, keep: Keep | None, most: int) -> None:
        with self._lock:
            busy = self._waiting >= most
            self._waiting += not busy
        if busy:
            self._told("busy")
        else:
            self._builder.submit(partial(self._run, frame, in_use, keep))

    # The builder

    def _run(self, frame: Picture, in_use: Student, keep: Keep | None) -> None:
        with self._lock:
            self._waiting -= 1
        if not self._over:
            self._told(self._look(frame, in_use, keep))
            self._judge()

    def _look(self, frame: Picture, in_use: Student, keep: Keep | None) -> str:
        try:
            found = self._find(frame, in_use)
            beside = Beside(self.student.model_id, to_wire(found))
        except ModelError as error:
            self._probation.failed(error)
            return "failed"
        except (av.FFmpegError, ValueError, CullingError):  # the picture cannot be scaled: no model's fault
            return "unreadable"
        self.ran += 1
        self._probation.saw(found)
        try:
            return "ran" if keep is None or keep(beside) else "late"
        except StorageError:
            return "storage"

    def _find(self, frame: Picture, in_use: Student) -> Detections:
        """Return what it finds, in pixels of the frame; a sampled frame is looked at by the one in use, too."""
        mine = look(self._builder, self._clock, self.student, frame)
        if self._probation.wants_sample(self._clock.monotonic()):
            try:
                comparison = side_by_side(look(self._builder, self._clock, in_use, frame), mine)
            except ModelError:
                comparison = NOTHING
            self._probation.compared(comparison)
        return to_frame(mine.found, (1, 1), (frame.height, frame.width))

    def _judge(self) -> None:
        verdict = self._probation.verdict(self._clock.monotonic())
        if verdict is not None and not verdict.passed:
            self._over = True
            self._failed(verdict.reason)
        elif self.ran == self._rules.frames:
            self._settled()


@dataclass(frozen=True)
class Look:
    """What a student found in a frame, in shares of its sides, in how many seconds, on an input of so many `pixels`."""

    classes: tuple[str, ...]
    found: Detections
    seconds: float
    pixels: int


def look(builder: Builder, clock: Clock, student: Student, frame: Picture) -> Look:
    """Have a student look at a frame in a lull. Raises ModelError when it fails."""
    picture = frame.input(*student.input_size(frame.width, frame.height))
    builder.await_lull()
    started = clock.monotonic()
    found = student.graph.run(picture[None])[0]
    seconds = clock.monotonic() - started
    height, width = picture.shape[:2]
    return Look(student.classes, to_frame(found, (height, width), (1, 1)), seconds, height * width)


def side_by_side(before: Look, after: Look) -> ModelComparison:
    """Return how two students did on one frame, by the classes that both find."""
    own, other = before.classes, after.classes
    old, new = before.found.among(own, other), after.found.among(other, own).among(own, other)
    return ModelComparison(before.seconds, after.seconds, old, new, max(1.0, after.pixels / before.pixels))
