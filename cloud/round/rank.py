"""The rank stage (`learn` in the index): fit a ranker to the teacher's labels, and prove that it may choose frames.

Each labelled frame that came with its features is a pair: what its student put out, and how wrong that student was.
The ranker assumes that features mean the same for the next student. The proof would show where they do not, because
it judges by pairs of the latest students too.

Only audit frames judge, which were drawn at random: frames that were forwarded for their loss cannot show what the loss
misses. Their hardness is predicted by rankers fitted without their stretch of time, because a ranker that has seen the
neighbouring frame would know the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.round.context import Context, Result, Results
from culling.cloud.store.rounds import Round
from culling.common.selection.features import FEATURES, SPEC, read
from culling.common.selection.ranker import Ranker

MOST_LESSONS = 4096
"""The newest labelled frames are enough for a linear fit; the bound keeps the stage short."""
PRIOR = 60.0
"""Ridge penalty: it takes so many pairs to outweigh the assumption that only the loss tells how hard a frame is."""
EPSILON = 1e-6
"""Features that vary less than this are constant; it also keeps the unpenalised loss solvable."""
FOLDS = 5
"""Stretches of time that are left out in turn; more would put neighbours of a frame into what predicts it."""
LEAST_AUDITS = 40
"""Fewer audit frames hold a handful of hard ones at most: too few to compare ranker and loss by."""
RESAMPLES = 200
"""Enough to know a certainty of 0.9 within about 0.02."""
CERTAIN = 0.9
"""The share of resamples of the audit frames in which the ranker must do better than the loss."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lesson:
    """What was learnt from a camera's `pairs`, of which `audits` judge.

    `gain_loss` and `gain_learned` are `gain_area` on the audit frames; `certainty` is the share of their resamples in
    which the ranker does better. `ranker` is None unless it is proven.
    """

    pairs: int
    audits: int
    gain_loss: float = 0.0
    gain_learned: float = 0.0
    certainty: float = 0.0
    ranker: Ranker | None = None


def rank(context: Context, turn: Round, _: Results) -> Result:
    """Fit a ranker to the labelled frames that have features; it ships with the model if it is proven."""
    told = [(frame, read(frame.features)) for frame in context.lifecycle.lessons(turn.camera, MOST_LESSONS)]
    pairs = [(frame, values) for frame, values in told if values is not None]
    lesson = learn(
        np.array([values for _, values in pairs]).reshape(-1, len(FEATURES)),
        np.array([context.hardness(frame).value for frame, _ in pairs]),
        np.array([frame.loss for frame, _ in pairs]),
        np.array([frame.reason == "audit" for frame, _ in pairs], np.bool_),
    )
    return {**msgspec.to_builtins(lesson), "proven": lesson.ranker is not None}


def learn(features: Array, hardness: Array, losses: Array, audits: NDArray[np.bool_]) -> Lesson:
    """Return what `N` pairs, in order of capture, teach.

    `features` is `(N, F)`, `hardness` `(N,)` in [0, 1]; `losses` `(N,)` are confidence losses, `audits` `(N,)` marks
    the frames that were drawn at random.
    """
    count = int(audits.sum())
    if count < LEAST_AUDITS:
        return Lesson(len(hardness), count)
    true, loss = hardness[audits], losses[audits]
    predicted = _without_their_time(features, hardness)[audits]
    certainty = _certainty(predicted, loss, true)
    lesson = Lesson(len(hardness), count, gain_area(loss, true), gain_area(predicted, true), certainty)
    if certainty < CERTAIN:
        return lesson
    return replace(lesson, ranker=fit_ranker(features, hardness))


def fit_ranker(features: Array, hardness: Array) -> Ranker:
    """Return the ranker that predicts `hardness` `(N,)` from `features` `(N, F)`.

    Ridge regression on standardised features; the loss is not penalised, so few pairs give little more than the loss.
    """
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > EPSILON, spread, 1.0)
    z, level = (features - mean) / scale, float(hardness.mean())
    penalty = np.full(z.shape[1], PRIOR)
    penalty[FEATURES.index("loss")] = EPSILON
    weights = np.linalg.solve(z.T @ z + np.diag(penalty), z.T @ (hardness - level)) / scale
    low, high = features.min(0).tolist(), features.max(0).tolist()
    return Ranker(SPEC, tuple(low), tuple(high), tuple(weights.tolist()), level - float(weights @ mean))


def gain_area(worth: Array, hardness: Array) -> float:
    """Return the share of all hardness that forwarding by `worth` collects, averaged over every budget.

    This is the area under the gain curve. Chance gives 0.5, and so does a camera without a hard frame.
    """
    total = float(hardness.sum())
    if total <= 0.0:
        return 0.5
    _, place, ties = np.unique(worth, return_inverse=True, return_counts=True)
    below = np.cumsum(ties) - ties / 2  # ties share their rank
    return float(hardness @ below[place]) / (total * len(worth))


def _without_their_time(features: Array, hardness: Array) -> Array:
    """Return each frame's hardness as predicted by a ranker fitted without its fold, a stretch of time."""
    predicted = np.empty(len(hardness))
    for fold in np.array_split(np.arange(len(hardness)), FOLDS):
        others = np.ones(len(hardness), np.bool_)
        others[fold] = False
        predicted[fold] = fit_ranker(features[others], hardness[others]).predict(features[fold])
    return predicted


def _certainty(predicted: Array, losses: Array, hardness: Array) -> float:
    """Return the share of resamples in which the prediction collects more than the loss."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(hardness), (RESAMPLES, len(hardness)))
    ahead = [gain_area(predicted[i], hardness[i]) > gain_area(losses[i], hardness[i]) for i in drawn]
    return float(np.mean(ahead))
