"""What a smaller input costs by the labels: the change of average precision, and how far that may be off.

The student in use looks at the same labelled frames at full size and at a smaller one. Of the difference, class by
class, AP50 and AP50:95, the lower bound is taken from resamples of blocks of time. An input passes if no bound is below
the tolerance. Sums over a frame cannot tell this: in a crowd they hardly move while its boxes go wrong.

That student was trained for its own size and at full size, the candidate will be trained for the one that is chosen.
What is lost here is therefore more than what will be; the gate has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.bootstrap import LEAST_BLOCKS, effective, lower_bound, resample
from culling.cloud.evaluation.comparison import FEW_OBJECTS, allowed
from culling.cloud.evaluation.tally import Tally, rank

Array = NDArray[np.float64]
Looked = Sequence[Sequence[Tally]]
"""What a student did on each frame, at each of COCO's ten overlaps."""

CERTAINTY = 0.95
"""One-sided, of every bound by itself."""

RESAMPLES = 400

LEAST_FRAMES = 24
"""Fewer frames that happen to show no loss would let any input pass."""

MOST_ALARMS = 0.1
"""The share of frames that may get a false alarm of a class that is hardly ever there: a coarser figure than an AP."""


@dataclass(frozen=True)
class SizeLoss:
    """One figure's change from full size, below 0 where it falls, its lower bound, and how low that may be."""

    name: str
    change: float
    low: float
    least: float

    @property
    def passed(self) -> bool:
        """Whether it certainly loses no more than it may."""
        return self.low >= self.least


@dataclass(frozen=True)
class SizeVerdict:
    """What an input costs: the change of AP50 and AP50:95, means over the classes, and every figure, worst first."""

    ap50: float
    ap50_95: float
    losses: tuple[SizeLoss, ...]

    @property
    def passed(self) -> bool:
        """Whether none loses too much."""
        return all(loss.passed for loss in self.losses)


class SizeComparison:
    """What a student did on F frames at `full` size, to compare smaller inputs with.

    `blocks` `(F,)` names the stretch of time of each frame: those are drawn whole. `labels` are the classes of
    interest, as indices with names. A class may lose `tolerance`.
    """

    def __init__(
        self, full: Looked, blocks: Sequence[int], labels: Mapping[int, str], tolerance: float, seed: int = 0
    ) -> None:
        self._full = full
        self._labels = labels
        self._tolerance = tolerance
        self._blocks = np.asarray(blocks, np.int64)
        drawn = resample(self._blocks, RESAMPLES, seed) if full else np.zeros((0, 0))
        self._weights = np.vstack([np.ones((1, len(full))), drawn])
        self._effective = effective(self._blocks, np.ones(len(full)))
        self._objects = {label: sum(frame[0].objects[label] for frame in full) for label in labels}
        self._before = cache(lambda label: self._precisions(self._full, label))

    @property
    def enough(self) -> bool:
        """Whether there are frames enough, and something to lose in them."""
        return enough(self._blocks.tolist()) and max(self._objects.values(), default=0) >= FEW_OBJECTS

    def verdict(self, small: Looked) -> SizeVerdict:
        """Return what the student loses that did `small` on the same frames."""
        losses, means = [], []
        for label, count in self._objects.items():
            if count < FEW_OBJECTS:
                losses.append(self._alarms(small, label))
                continue
            changes = [
                late - early for early, late in zip(self._before(label), self._precisions(small, label), strict=True)
            ]
            means.append([float(change[0]) for change in changes])
            least = -allowed(self._tolerance, count)
            for measure, change in zip(("AP50", "AP50:95"), changes, strict=True):
                losses.append(self._loss(f"{measure} of {self._labels[label]}", change, least))
        ap50, ap50_95 = np.mean(means, axis=0) if means else (0.0, 0.0)
        return SizeVerdict(float(ap50), float(ap50_95), tuple(sorted(losses, key=lambda loss: loss.low - loss.least)))

    def _precisions(self, frames: Looked, label: int) -> tuple[Array, Array]:
        """Return AP50 and AP50:95 of a class, as they are and under every resample, `(1 + R,)` each."""
        levels = [rank([frame[level] for frame in frames], label) for level in range(len(frames[0]))]
        found = [level.precision(self._weights) for level in levels]
        return found[0], np.mean(found, axis=0)

    def _alarms(self, small: Looked, label: int) -> SizeLoss:
        """Return by how much fewer frames have a false alarm of a class that is hardly ever there."""
        sides = [np.array([frame[0].alarmed(label) for frame in frames], np.float64) for frames in (self._full, small)]
        total = np.maximum(self._weights.sum(1), 1.0)
        change = self._weights @ (sides[0] - sides[1]) / total
        return self._loss(f"frames without a false {self._labels[label]}", change, -MOST_ALARMS)

    def _loss(self, name: str, change: Array, least: float) -> SizeLoss:
        low = lower_bound(change[1:], self._effective, CERTAINTY)
        return SizeLoss(name, float(change[0]), min(low, float(change[0])), least)


def enough(blocks: Sequence[int]) -> bool:
    """Return whether frames of these blocks of time are enough to tell anything."""
    return len(blocks) >= LEAST_FRAMES and len(set(blocks)) >= LEAST_BLOCKS


def smallest(verdicts: Sequence[SizeVerdict]) -> int:
    """Return the index of the last input that passes, full size first, whether those before it pass or not."""
    return max((at for at, verdict in enumerate(verdicts) if verdict.passed), default=0)


def told(scales: Sequence[float], verdicts: Sequence[SizeVerdict], chosen: int, frames: int) -> str:
    """Return in words which of the scales, full size first, was chosen of how many frames, and why.

    There is a verdict on each, or none at all.
    """
    if not verdicts:
        return f"full size: {frames} frames, of few moments or few objects, cannot tell what a smaller input costs"
    if len(verdicts) == 1:
        return "full size: at every smaller one the confidence loss is another altogether"
    if chosen:
        at = verdicts[chosen]
        return f"scale {scales[chosen]:.2f}: AP50 {at.ap50:+.3f}, AP50:95 {at.ap50_95:+.3f} on {frames} labelled frames"
    best = max(range(1, len(verdicts)), key=lambda at: verdicts[at].losses[0].low - verdicts[at].losses[0].least)
    worst = verdicts[best].losses[0]
    return (
        f"full size: at scale {scales[best]:.2f} {worst.name} changes by {worst.change:+.3f} on {frames} labelled "
        f"frames, which may be {worst.low:+.3f}, and {worst.least:+.3f} is allowed"
    )
