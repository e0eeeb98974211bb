"""Measured accuracy: how right a camera's student is on everything the camera sees, from the few frames that left.

Frames that were forwarded as hard are the student's worst; what it makes of the others is known from audits, which were
drawn with a known probability. So an audit stands for 1/probability frames, a hard frame for itself, and nothing else
counts: bootstrap and manual frames were chosen neither by the student nor by chance. An audit that was never labelled
is stood for by the one nearest in time, so that an hour of which the teacher saw few weighs as much as any other.

AP50 overall puts the detections of all classes of interest into one list: each has to match a label of its own class,
and every false alarm counts, also of a class that no label has. The mean over classes would make a class of three
labels as heavy as one of three hundred; classes with enough labels are told beside it.

Intervals hold 95 of 100 times. They come from a bootstrap over blocks of time, because frames of the same minutes look
alike, with quantiles widened for the small number of blocks (Hesterberg 2015, "expanded percentile"). Where nothing was
wrong a bootstrap knows no error at all, so the share of wrong records has Clopper and Pearson's bound, for as many
frames as the weighted blocks are worth (Korn and Graubard 1998).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.bootstrap import resample
from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.precision import STUDENT_FLOOR, hardness
from culling.cloud.evaluation.tally import Tally, rank, tally

MISSED = 0.5
"""A frame at least this hard should have been forwarded: the student got half of it wrong."""
LEAST_AUDITS = 10
"""With fewer audits an interval would be as wide as the scale."""
LEAST_OBJECTS = 20
"""Labels of a class from which on it is told by itself."""
BLOCK_S = 300.0
"""Longer than an object stays in most scenes; a window of an hour still has twelve."""
REACH_S = 3600.0
"""An audit stands for others within so many seconds: farther away, the scene may be another."""
RESAMPLES = 400
"""Enough that the ends of an interval change by less than a hundredth from seed to seed."""
CONFIDENCE = 0.95

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Forwarded:
    """A labelled frame of one student: all that it found beside the labels, and when it was captured (seconds).

    `probability` is that with which an audit was drawn, None for a frame that was forwarded as hard. One that is
    `answered` went out with the teacher's detections, which came in time.
    """

    compared: Compared
    at: float
    probability: float | None
    answered: bool = False


class Estimate(msgspec.Struct, frozen=True):
    """An estimated value and the interval that it lies in, by its `CONFIDENCE`."""

    value: float
    low: float
    high: float


class Share(msgspec.Struct, frozen=True):
    """An estimated share, and what it is at most, by its `CONFIDENCE`."""

    value: float
    high: float


class Accuracy(msgspec.Struct, frozen=True):
    """What the labelled frames of one student say of all its frames; `audits` of the `frames` were drawn.

    `ap50` is None where no label is true. Of the frames of hardness `MISSED` or more, `missed` is the share that was
    not forwarded as hard, None where there are none. `wrong` is the share of all frames whose records were as wrong as
    that: those that the teacher answered in time were right.
    """

    frames: int
    audits: int
    ap50: Estimate | None
    per_class: dict[str, Estimate]
    missed: Estimate | None
    wrong: Share


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
    drawn = np.vstack([weights, weights * resample(blocks, RESAMPLES, seed)])
    spread = Intervals(len(np.unique(blocks[audits])))
    labels = range(len(classes)) if interest is None else sorted(interest)
    seen = [tally(frame.compared, len(classes)) for frame in frames]
    told = [label for label in labels if sum(one.objects[label] for one in seen) >= LEAST_OBJECTS]
    hard = np.array([_hardness(frame, interest) >= MISSED for frame in frames], np.bool_)
    wrong = hard & ~np.array([frame.answered for frame in frames], np.bool_)
    return Accuracy(
        frames=len(frames),
        audits=int(audits.sum()),
        ap50=spread.estimate(rank([pooled(one, labels) for one in seen], 0).precision(drawn)),
        per_class={
            classes[label]: estimate
            for label in told
            if (estimate := spread.estimate(rank(seen, label).precision(drawn))) is not None
        },
        missed=spread.estimate(_share(drawn, hard & audits, hard)),
        wrong=_bounded(weights, wrong, blocks),
    )


def drawn_and_labelled(labelled: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> list[float]:
    """Return with what probability each of the `labelled` audits was drawn and labelled, where `others` were not.

    Both are times of capture, in seconds, each with the probability with which it was drawn. Which audits are labelled
    depends on when they came, never on what is in them: the nearest within `REACH_S` stands for each.
    """
    times = np.array([at for at, _ in labelled])
    stood = np.array([1.0 / probability for _, probability in labelled])
    for at, probability in others if labelled else ():
        away = np.abs(times - at)
        if away.min() <= REACH_S:
            stood[int(away.argmin())] += 1.0 / probability
    return [float(value) for value in 1.0 / stood]


def pooled(seen: Tally, labels: Sequence[int]) -> Tally:
    """Return a tally in which all those classes are one."""
    scores, hits = (np.concatenate([part[label] for label in labels]) for part in (seen.scores, seen.hits))
    return Tally((sum(seen.objects[label] for label in labels),), (scores,), (hits,))


def _hardness(frame: Forwarded, interest: Collection[int] | None) -> float:
    seen = frame.compared
    return hardness(Compared(seen.found.above(STUDENT_FLOOR), seen.true, seen.doubtful), interest).value


def _share(weights: Values, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Values:
    total = weights @ whole
    return np.asarray(np.divide(weights @ part, total, out=np.full(len(weights), np.nan), where=total > 0))


def _bounded(weights: Values, part: NDArray[np.bool_], blocks: NDArray[np.intp]) -> Share:
    """Return the weighted share of the frames in `part`, with the bound that so many blocks of them allow."""
    heavy = np.bincount(blocks, weights)
    share, frames = float(weights @ part / weights.sum()), math.floor(heavy.sum() ** 2 / (heavy**2).sum() + 1e-9)
    return Share(share, most(math.ceil(share * frames - 1e-9), frames))


def most(seen: int, sample: int) -> float:
    """Return the largest share of which no more than `seen` in a `sample` are seen once in 20 times (Clopper-Pearson).

    That is by `CONFIDENCE`, on one side, to a millionth.
    """
    if seen >= sample:
        return 1.0
    ways = [math.comb(sample, k) for k in range(seen + 1)]
    low, high = seen / sample, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        chance = sum(way * middle**k * (1 - middle) ** (sample - k) for k, way in enumerate(ways))
        low, high = (middle, high) if chance > 1 - CONFIDENCE else (low, middle)
    return high


class Intervals:
    """Makes intervals from resamples of so many independent `blocks`. One block says nothing of how far it may be off:
    all its resamples are alike, and the interval is the whole scale.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        free = max(1, blocks - 1)
        z = NormalDist().inv_cdf((1.0 + CONFIDENCE) / 2.0)
        # Student's t by its expansion (Abramowitz and Stegun 26.7.5): within .01 from 8 blocks on.
        t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        self._tail = NormalDist().cdf(-t * math.sqrt((free + 1) / free))

    def estimate(self, values: Values) -> Estimate | None:
        """Return the first of `values` with the interval of the others, resamples; None where it is not a number."""
        value, others = float(values[0]), values[1:][~np.isnan(values[1:])]
        if math.isnan(value):
            return None
        known = self._blocks > 1 and len(others)
        low, high = np.quantile(others, [self._tail, 1.0 - self._tail]) if known else (0.0, 1.0)
        return Estimate(value, min(value, float(low)), max(value, float(high)))
