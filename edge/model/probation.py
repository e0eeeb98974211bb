"""Whether a model that has just taken over may stay: rules without I/O, which compare it with the one it replaced.

The camera's own results show errors, outputs that are not numbers, and a model that never finds anything. Comparisons
of both models on the same sampled frame, one right after the other, show the rest: a road may really be empty, and a
machine really slower than an hour ago, so neither is held against the new model alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from culling.common.errors import ModelError
from culling.common.frame import Detections, iou
from culling.common.graph import NotFiniteError
from culling.edge.model.student import CONFIDENT

_SURE = 0.7
"""Score from which the previous model is sure of a box; a new model may rightly drop doubtful ones."""
_SAME_PLACE = 0.5
"""IoU from which two boxes are the same object, as in AP50."""


@dataclass(frozen=True)
class ProbationRules:
    """How long probation lasts, and what ends it early.

    A model passes after at least `frames` results, `seconds` and `samples` comparisons, which are `spacing_s` apart. It
    fails after `errors` failed frames; after one result that is not finite; if its fastest run takes more than `slow`
    times the previous model's, scaled to its input size; if it finds nothing at all while the previous model was sure
    in `sure_samples` samples; or if of at least `pairs` boxes that both models see, more than half change class.
    """

    frames: int = 50
    seconds: float = 10.0
    samples: int = 8
    spacing_s: float = 0.5
    errors: int = 3
    slow: float = 2.0
    sure_samples: int = 5
    pairs: int = 10


@dataclass(frozen=True)
class ModelComparison:
    """Both models on one frame: their seconds, and what they found, boxes on a common scale.

    `larger` is how many times as many pixels the new model's input has, at least 1: a round that finds a larger input
    worth its time must not fail for taking that time.
    """

    old_s: float
    new_s: float
    old: Detections
    new: Detections
    larger: float = 1.0


NOTHING = ModelComparison(0.0, 0.0, Detections.empty(), Detections.empty())
"""Stands for a comparison that could not be made."""


@dataclass(frozen=True)
class ProbationEnd:
    """The end of a probation; `reason` is a short stable word."""

    passed: bool
    reason: str


@dataclass
class Probation:
    """The record of a new model since it took over at `started`, monotonic seconds."""

    rules: ProbationRules
    started: float
    frames: int = 0
    errors: int = 0
    not_finite: bool = False
    found_any: bool = False
    sampled_at: float = float("-inf")
    samples: int = 0
    _comparisons: list[ModelComparison] = field(default_factory=list)

    def saw(self, found: Detections) -> None:
        """Note a result of the new model."""
        self.frames += 1
        self.found_any = self.found_any or bool((found.scores >= CONFIDENT).any())

    def failed(self, error: ModelError) -> None:
        """Note a frame on which the new model failed."""
        self.errors += 1
        self.not_finite = self.not_finite or isinstance(error, NotFiniteError)

    def wants_sample(self, at: float) -> bool:
        """Return whether to compare both models on the current frame, and count that as a sample."""
        if self.samples >= self.rules.samples or at - self.sampled_at < self.rules.spacing_s:
            return False
        self.sampled_at, self.samples = at, self.samples + 1
        return True

    def compared(self, comparison: ModelComparison) -> None:
        """Note a comparison on a sampled frame."""
        self._comparisons.append(comparison)

    def verdict(self, at: float) -> ProbationEnd | None:
        """Return how probation ended, or None while it lasts."""
        if self.not_finite:
            return ProbationEnd(False, "not-finite")
        if self.errors >= self.rules.errors:
            return ProbationEnd(False, "errors")
        if self._slow():
            return ProbationEnd(False, "slow")
        if self._blind():
            return ProbationEnd(False, "always-empty")
        if self._confused():
            return ProbationEnd(False, "class-drift")
        rules = self.rules
        enough = self.frames >= rules.frames and len(self._comparisons) >= rules.samples
        return ProbationEnd(True, "passed") if enough and at - self.started >= rules.seconds else None

    def _slow(self) -> bool:
        timed = [comparison for comparison in self._comparisons if comparison is not NOTHING]
        if len(timed) < self.rules.sure_samples:
            return False
        # Other work only ever adds to a time, so the fastest runs are the models' own.
        old = min(comparison.old_s * comparison.larger for comparison in timed)
        new = min(comparison.new_s for comparison in timed)
        return new > self.rules.slow * old

    def _blind(self) -> bool:
        sure = sum(bool((comparison.old.scores >= _SURE).any()) for comparison in self._comparisons)
        return not self.found_any and sure >= self.rules.sure_samples

    def _confused(self) -> bool:
        changed = [change for comparison in self._comparisons for change in _changes(comparison)]
        return len(changed) >= self.rules.pairs and 2 * sum(changed) > len(changed)


def _changes(comparison: ModelComparison) -> list[bool]:
    """Return for each box that both models are confident of whether its class has changed."""
    old, new = comparison.old.above(CONFIDENT), comparison.new.above(CONFIDENT)
    if not len(old) or not len(new):
        return []
    shared = iou(old.boxes, new.boxes)
    best = shared.argmax(axis=1)
    same_place = shared[np.arange(len(old)), best] >= _SAME_PLACE
    return [bool(change) for change in (old.labels != new.labels[best])[same_place]]
