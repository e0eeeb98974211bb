"""Measured accuracy: how right a camera's student is on everything the camera sees, from the few frames that left.

Frames that were forwarded as hard are the student's worst; what it makes of the others is known from audits, which were
drawn with a known probability. So an audit stands for 1/probability frames, a hard frame for itself, and nothing else
counts: bootstrap and manual frames were chosen neither by the student nor by chance.

AP50 overall puts the detections of all classes of interest into one list: each has to match a label of its own class,
and every false alarm counts, also of a class that no label has. The mean over classes would make a class of three
labels as heavy as one of three hundred; classes with enough labels are told beside it.

Intervals hold 95 of 100 times. They come from a bootstrap over blocks of time, because frames of the same minutes look
alike, with quantiles widened for the small number of blocks (Hesterberg 2015, "expanded percentile").
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.matching import Compared, matched
from culling.cloud.evaluation.precision import STUDENT_FLOOR, hardness

MISSED = 0.5
"""A frame at least this hard should have been forwarded: the student got half of it wrong."""
LEAST_AUDITS = 10
"""With fewer audits an interval would be as wide as the scale."""
LEAST_OBJECTS = 20
"""Labels of a class from which on it is told by itself."""
BLOCK_S = 300.0
"""Longer than an object stays in most scenes; a window of an hour still has twelve."""
RESAMPLES = 400
"""Enough that the ends of an interval change by less than a hundredth from seed to seed."""
CONFIDENCE = 0.95
AT_ONCE = 1 << 22
"""Most numbers in one table of resamples, 32 MB."""

_RECALLS = np.linspace(0, 1, 101)
_ROUNDING = 1e-9

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Forwarded:
    """A labelled frame of one student: all that it found beside the labels, and when it was captured (seconds).

    `probability` is that with which an audit was drawn, None for a frame that was forwarded as hard.
    """

    compared: Compared
    at: float
    probability: float | None


class Estimate(msgspec.Struct, frozen=True):
    """An estimated value and the interval that it lies in, by its `CONFIDENCE`."""

    value: float
    low: float
    high: float


class Accuracy(msgspec.Struct, frozen=True):
    """What the labelled frames of one student say of all its frames; `audits` of the `frames` were drawn.

    `ap50` is None where no label is true. Of the frames of hardness `MISSED` or more, `missed` is the share that was
    not forwarded as hard, None where there are none; of the frames not forwarded, `stayed_hard` are as hard as that.
    """

    frames: int
    audits: int
    ap50: Estimate | None
    per_class: dict[str, Estimate]
    missed: Estimate | None
    stayed_hard: Estimate


def measure(
    frames: Sequence[Forwarded], classes: Sequence[str], interest: Collection[int] | None = None, seed: int = 0
) -> Accuracy | None:
    """Return the accuracy of one student over `frames`, in any order; None with fewer than `LEAST_AUDITS` audits.

    Only `classes` of `interest` (indices) count, if given.
    """
    audits = np.array([frame.probability is not None for frame in frames], np.bool_)
    if audits.sum() < LEAST_AUDITS:
        return None
    weights = np.array([1.0 if frame.probability is None else 1.0 / frame.probability for frame in frames])
    blocks = np.unique(np.array([frame.at for frame in frames]) // BLOCK_S, return_inverse=True)[1]
    drawn = np.vstack([weights, weights * _resampled(blocks, seed)])
    spread = _Spread(len(np.unique(blocks[audits])))
    ranked = {label: _rank(frames, label) for label in (range(len(classes)) if interest is None else sorted(interest))}
    hard = np.array([_hardness(frame, interest) >= MISSED for frame in frames], np.bool_)
    told = {label: each for label, each in ranked.items() if each.labels.sum() >= LEAST_OBJECTS}
    return Accuracy(
        frames=len(frames),
        audits=int(audits.sum()),
        ap50=spread.estimate(_average_precision(_merge(list(ranked.values())), drawn)),
        per_class={
            classes[label]: estimate
            for label, each in told.items()
            if (estimate := spread.estimate(_average_precision(each, drawn))) is not None
        },
        missed=spread.estimate(_share(drawn, hard & audits, hard)),
        stayed_hard=spread.estimate(_share(drawn, hard & audits, audits)) or Estimate(0.0, 0.0, 1.0),
    )


def is_worse(now: Estimate, before: Estimate, margin: float = 0.0) -> bool:
    """Return whether `now` lies below `before` by more than `margin` and the interval of their difference."""
    noise = math.hypot(now.high - now.value, before.value - before.low)
    return before.value - now.value > margin + noise


@dataclass(frozen=True)
class _Ranked:
    """The detections of one or more classes that count, best first: which frame each is of, whether it hits; and how
    many true `labels` each frame has.
    """

    scores: NDArray[np.float32]
    frame: NDArray[np.intp]
    hit: NDArray[np.bool_]
    labels: Values


def _rank(frames: Sequence[Forwarded], label: int) -> _Ranked:
    parts = [matched(frame.compared, label) for frame in frames]
    which = np.repeat(np.arange(len(frames)), [len(scores) for scores, _ in parts])
    labels = np.array([np.count_nonzero(frame.compared.true.labels == label) for frame in frames], np.float64)
    scores, hits = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return _merge([_Ranked(scores, which, hits, labels)])


def _merge(parts: Sequence[_Ranked]) -> _Ranked:
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    frame, hit = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("frame", "hit"))
    return _Ranked(scores[order], frame, hit, np.sum([part.labels for part in parts], axis=0))


def _average_precision(ranked: _Ranked, weights: Values) -> Values:
    """Return the AP50 for each row of `weights`, `(R, F)` to `(R,)`; NaN where no label has weight."""
    objects = weights @ ranked.labels
    rows = max(1, AT_ONCE // max(1, len(ranked.scores)))
    parts = [_curves(ranked, weights[i : i + rows], objects[i : i + rows]) for i in range(0, len(weights), rows)]
    return np.where(objects > 0, np.concatenate(parts), np.nan)


def _curves(ranked: _Ranked, weights: Values, objects: Values) -> Values:
    each = weights[:, ranked.frame]
    right, all_found = np.cumsum(each * ranked.hit, axis=1), np.cumsum(each, axis=1)
    precision = np.divide(right, all_found, out=np.zeros_like(right), where=all_found > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.where(objects > 0, objects, 1.0)[:, None] + _ROUNDING
    reached = [np.searchsorted(row, _RECALLS) for row in recall]
    ends = np.hstack([best, np.zeros((len(best), 1))])
    return np.array([row[places].mean() for row, places in zip(ends, reached, strict=True)])


def _hardness(frame: Forwarded, interest: Collection[int] | None) -> float:
    seen = frame.compared
    return hardness(Compared(seen.found.above(STUDENT_FLOOR), seen.true, seen.doubtful), interest).value


def _share(weights: Values, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Values:
    total = weights @ whole
    return np.asarray(np.divide(weights @ part, total, out=np.full(len(weights), np.nan), where=total > 0))


def _resampled(blocks: NDArray[np.intp], seed: int) -> Values:
    """Return how often each frame is in each of `RESAMPLES` resamples of the blocks, `(RESAMPLES, F)`."""
    count = int(blocks.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), RESAMPLES)
    return drawn[:, blocks].astype(np.float64)


class _Spread:
    """Makes intervals from resamples of so many independent blocks."""

    def __init__(self, blocks: int) -> None:
        free = max(1, blocks - 1)
        z = NormalDist().inv_cdf((1.0 + CONFIDENCE) / 2.0)
        # Student's t by its expansion (Abramowitz and Stegun 26.7.5): within .01 from 5 blocks on.
        t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        self._tail = NormalDist().cdf(-t * math.sqrt((free + 1) / free))

    def estimate(self, values: Values) -> Estimate | None:
        """Return the first of `values` with the interval of the others, resamples; None where it is not a number."""
        value, others = float(values[0]), values[1:][~np.isnan(values[1:])]
        if math.isnan(value):
            return None
        low, high = np.quantile(others, [self._tail, 1.0 - self._tail]) if len(others) else (0.0, 1.0)
        return Estimate(value, min(value, float(low)), max(value, float(high)))
