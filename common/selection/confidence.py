"""How hard one frame is, from the student's scores alone (Dataset Culling, ICIP 2019, section 2.1).

    L(x) = −x·log(x)·Q + (1 − x)·eˣ/(eˣ + 1) + b

summed over the detections of a frame. The paper does not settle every part of it, so the exact form is a named policy:

    name            Q  b     log             floor  L(0)  L(1)   source
    paper           3   0.5  ln(x)           0.2    1.0    0.5   the printed formula and constants
    zero-intercept  3  −0.5  ln(x)           0.2    0.0   −0.5   the zero intercept that the text asks for
    reference       4   0.5  log10(x + 1e-5) 0.5    1.0    0.5   the authors' released code
    per-object      3   0.5  ln(x)           0.2    1.0    0.5   ours: `paper`, the sum divided by √n for n detections

Detections that score below the floor are not counted; the released code sums above 0.2, but has dropped what scores
below 0.5 by then. With a positive b the sum grows with the number of objects; with `zero-intercept` a sure object
lowers it. `per-object` lies between that sum, by which a crowd of sure objects beats one doubtful one, and the mean, by
which a crowd of doubtful objects is worth no more than one of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections

MEMORY = 3600
"""Frames after which the running statistics of a `LossMeter` begin to forget: an hour at one frame a second."""


@dataclass(frozen=True)
class ConfidencePolicy:
    """One exact form of the confidence loss; `floor` is the lowest score that is counted. The sum over n detections is
    divided by n to the power of `power`.
    """

    name: str
    q: float
    b: float
    log_base: Literal["e", "10"]
    floor: float
    epsilon: float = 0.0
    power: float = 0.0


POLICIES: dict[str, ConfidencePolicy] = {
    policy.name: policy
    for policy in (
        ConfidencePolicy("paper", q=3.0, b=0.5, log_base="e", floor=0.2),
        ConfidencePolicy("zero-intercept", q=3.0, b=-0.5, log_base="e", floor=0.2),
        ConfidencePolicy("reference", q=4.0, b=0.5, log_base="10", floor=0.5, epsilon=1e-5),
        ConfidencePolicy("per-object", q=3.0, b=0.5, log_base="e", floor=0.2, power=0.5),
    )
}


def confidence_loss(scores: NDArray[np.floating], policy: ConfidencePolicy) -> NDArray[np.float64]:
    """Return L(x) of each score, same shape, float64; `−x·log(x)` is 0 at x = 0. The floor is not applied here.

    Raises `ValueError` for a score that is not a number in [0, 1].
    """
    x = np.asarray(scores, np.float64)
    if not np.all((x >= 0.0) & (x <= 1.0)):
        raise ValueError("scores must be numbers in [0, 1]")
    shifted = x + policy.epsilon
    log = np.log(shifted, out=np.zeros_like(x), where=shifted > 0.0)
    if policy.log_base == "10":
        log /= math.log(10.0)
    return -x * log * policy.q + (1.0 - x) / (1.0 + np.exp(-x)) + policy.b


class LossMeter:
    """The confidence loss of one camera's frames, in the order they come.

    The loss of a frame is the sum of L(score), divided as the policy says, over the detections that count: a class of
    `interest` (indices; none named means every class), a score of at least the policy's floor, both box sides at least
    `min_side` pixels. A frame in which nothing counts has loss 0.0.

    With `normalise`, the sum of each class is divided by its running standard deviation over this camera's frames,
    and the mean over the classes of interest is taken, present in the frame or not: a class that comes in crowds
    does not drown a rare one. The released code takes z-scores over a whole day; what they subtract, the mean of
    each class, is the same for every frame and cannot change which are kept, so it is left out, and an empty
    frame keeps loss 0.0. The statistics weigh all frames alike up to `MEMORY`, then forget exponentially; they
    start as if one frame of unit spread had been seen. Without `normalise` a meter keeps no state.
    """

    def __init__(
        self,
        policy: ConfidencePolicy,
        class_count: int,
        interest: Collection[int] | None = None,
        min_side: float = 0.0,
        normalise: bool = False,
    ) -> None:
        chosen = sorted(set(interest or range(class_count)))
        if not chosen or chosen[0] < 0 or chosen[-1] >= class_count:
            raise ValueError(f"classes of interest must be indices below {class_count}, got {chosen}")
        self.policy = policy
        self._class_count = class_count
        self._interest = np.array(chosen)
        self._wanted = np.isin(np.arange(class_count), chosen)
        self._min_side = min_side
        self._spread = _RunningSpread(len(chosen)) if normalise else None

    def loss(self, found: Detections) -> float:
        """Return the loss of the next frame. Raises `ValueError` for a score or label that is out of range."""
        per_class = self._per_class(found)[self._interest]
        if self._spread is None:
            return float(per_class.sum())
        return float(np.mean(per_class / self._spread.after(per_class)))

    def relevant(self, found: Detections) -> Detections:
        """Return the detections that count where their score does: those of a class of interest, and large enough."""
        return found.where(self._wanted[found.labels] & self._large(found))

    def _large(self, found: Detections) -> NDArray[np.bool_]:
        if self._min_side <= 0.0:
            return np.ones(len(found), np.bool_)
        return np.asarray(np.min(found.boxes[:, 2:] - found.boxes[:, :2], axis=1) >= self._min_side)

    def _per_class(self, found: Detections) -> NDArray[np.float64]:
        if np.any((found.labels < 0) | (found.labels >= self._class_count)):
            raise ValueError(f"labels must be indices below {self._class_count}")
        losses = confidence_loss(found.scores, self.policy)
        # Compared in float32: a floor of 0.2 must let a float32 score of 0.2 pass.
        counted = self._large(found) & (found.scores >= np.float32(self.policy.floor))
        sums = np.zeros(self._class_count)
        np.add.at(sums, found.labels[counted], losses[counted])
        if self.policy.power:
            wanted = counted & self._wanted[found.labels]
            sums /= max(1.0, float(np.count_nonzero(wanted))) ** self.policy.power
        return sums


class _RunningSpread:
    """Running standard deviation of `size` numbers at once, by Welford's update with a bounded weight."""

    def __init__(self, size: int) -> None:
        self._count = 1
        self._mean = np.zeros(size)
        self._variance = np.ones(size)

    def after(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviations, `values` included."""
        self._count = min(self._count + 1, MEMORY)
        weight = 1.0 / self._count
        off = values - self._mean
        self._mean += weight * off
        self._variance = (1.0 - weight) * (self._variance + weight * off**2)
        return np.sqrt(self._variance)
