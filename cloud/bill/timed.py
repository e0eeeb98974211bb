"""A teacher whose work is noted for the bill: what a label costs, and how long it takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from culling.cloud.bill.rates import Rates
from culling.cloud.model.teacher import Teacher
from culling.common.frame import Detections


class TimedTeacher:
    """Labels as `teacher` does, and notes what that took in `rates`; `clock` is in seconds."""

    def __init__(self, teacher: Teacher, rates: Rates, clock: Callable[[], float] = time.perf_counter) -> None:
        self._teacher = teacher
        self._rates = rates
        self._clock = clock

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        started = self._clock()
        found = self._teacher.label(frames)
        if frames:
            took = self._clock() - started
            self._rates.note("label", self._teacher.gflops(frames), took, self._teacher.each)
        return found
