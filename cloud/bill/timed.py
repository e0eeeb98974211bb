"""A teacher whose work is noted for the bill: what a label costs, and how long it takes on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from culling.cloud.bill.rates import Rates
from culling.cloud.teacher.interface import Teacher, Wrapped
from culling.common.frame import Detections

log = structlog.get_logger(__name__)


class TimedTeacher(Wrapped):
    """Labels as `teacher` does, and notes what that took in `rates`; `clock` is in seconds.

    The work of a teacher that cannot be counted is not noted: it has no price, and its cameras no ratio.
    """

    def __init__(self, teacher: Teacher, rates: Rates, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(teacher)
        self._rates = rates
        self._clock = clock
        self._each: dict[tuple[int, int], float | None] = {}

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        if not frames:
            return []
        started = self._clock()
        found = self._teacher.label(frames)
        took = self._clock() - started
        sizes = Counter((frame.shape[0], frame.shape[1]) for frame in frames)
        each = {size: cost for size in sizes if (cost := self._cost(size)) is not None}
        if each and len(each) == len(sizes):
            self._rates.note("label", sum(each[size] * count for size, count in sizes.items()), took, each)
        else:
            self._rates.forget("label")  # what the teacher before it cost is no price of this one's labels
        return found

    def _cost(self, size: tuple[int, int]) -> float | None:
        if size not in self._each:
            try:
                self._each[size] = self._teacher.gflops(*size)
            except Exception as error:  # of any package's teacher; a price is never worth the labels of a batch
                log.warning("teacher_not_counted", error=f"{type(error).__name__}: {error}")
                self._each[size] = None
        return self._each[size]
