"""The rank stage (`learn` in the index): fit a ranker to the teacher's labels, and prove that it may choose frames.

Each labelled frame that came with its features is a pair: what its student put out, and the mass of its mistakes there.
The ranker assumes that features mean the same for the next student. The proof would show where they do not, because
it judges by pairs of the latest students too.

Only audit frames judge, which were drawn at random: frames that were forwarded for their loss cannot show what the loss
misses. They judge at the budget: what counts is the mass in the few frames that would be forwarded, not how the rest is
ordered. Their mass is predicted by rankers fitted without their stretch of time, because a ranker that has seen the
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
BUDGET = (0.01, 0.05)
"""The share of frames that may leave, within which a ranker is proven: a camera's own may be .2 %, and of a few hundred
audit frames that is none."""
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

    `gain_loss` and `gain_learned` are `gain_at` the `budget` on the audit frames; `certainty` is the share of their
    resamples in which the ranker does better. `ranker` is None unless it is proven.
    """

    pairs: int
    audits: int
    gain_loss: float = 0.0
    gain_learned: float = 0.0
    certainty: float = 0.0
    budget: float = BUDGET[1]
    ranker: Ranker | None = None


def rank(context: Context, turn: Round, _: Results) -> Result:
    """Fit a ranker to the labelled frames that have features; it ships with the model if it is proven."""
    lessons = context.settled(turn.camera, context.lifecycle.lessons(turn.camera, MOST_LESSONS))
    told = [(frame, read(frame.features)) for frame in lessons]
    pairs = [(frame, values) for frame, values in told if values is not None]
    lesson = learn(
        np.array([values for _, values in pairs]).reshape(-1, len(FEATURES)),
        np.array([context.mistakes(frame, frame.detections).mass for frame, _ in pairs]),
        np.array([frame.loss for frame, _ in pairs]),
        np.array([frame.reason == "audit" for frame, _ in pairs], np.bool_),
        budget(context.lifecycle.forwarded_share(turn.camera)),
    )
    return {**msgspec.to_builtins(lesson), "proven": lesson.ranker is not None}


def budget(share: float | None) -> float:
    """Return the share of frames at which a ranker is proven, where a camera forwards `share` of those it scores."""
    return BUDGET[1] if share is None else float(np.clip(share, *BUDGET))


def learn(features: Array, mass: Array, losses: Array, audits: NDArray[np.bool_], share: float = BUDGET[1]) -> Lesson:
    """Return what `N` pairs, in order of capture, teach.

    `features` is `(N, F)`, `mass` `(N,)` at least 0; `losses` `(N,)` are confidence losses, `audits` `(N,)` marks
    the frames that were drawn at random. `share` of all frames may leave.
    """
    count = int(audits.sum())
    if count < LEAST_AUDITS:
        return Lesson(len(mass), count, budget=share)
    true, loss = mass[audits], losses[audits]
    predicted = _without_their_time(features, mass)[audits]
    certainty = _certainty(predicted, loss, true, share)
    gains = gain_at(loss, true, share), gain_at(predicted, true, share)
    lesson = Lesson(len(mass), count, *gains, certainty, share)
    if certainty < CERTAIN:
        return lesson
    return replace(lesson, ranker=fit_ranker(features, mass))


def fit_ranker(features: Array, mass: Array) -> Ranker:
    """Return the ranker that predicts `mass` `(N,)` from `features` `(N, F)`.

    Ridge regression on standardised features; the loss is not penalised, so few pairs give little more than the loss.
    """
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > EPSILON, spread, 1.0)
    z, level = (features - mean) / scale, float(mass.mean())
    penalty = np.full(z.shape[1], PRIOR)
    penalty[FEATURES.index("loss")] = EPSILON
    weights = np.linalg.solve(z.T @ z + np.diag(penalty), z.T @ (mass - level)) / scale
    low, high = features.min(0).tolist(), features.max(0).tolist()
    return Ranker(SPEC, tuple(low), tuple(high), tuple(weights.tolist()), level - float(weights @ mean))


def gain_at(worth: Array, mass: Array, share: float) -> float:
    """Return the share of all mass that is in the `share` of frames of most worth, at least one; ties by their mean.

    A camera without a mistake gives 0.
    """
    total = float(mass.sum())
    if total <= 0.0:
        return 0.0
    count = max(1, round(share * len(worth)))
    border = np.partition(worth, -count)[-count]
    above, tied = worth > border, worth == border
    return float(mass[above].sum() + mass[tied].mean() * (count - int(above.sum()))) / total


def _without_their_time(features: Array, mass: Array) -> Array:
    """Return each frame's mass as predicted by a ranker fitted without its fold, a stretch of time."""
    predicted = np.empty(len(mass))
    for fold in np.array_split(np.arange(len(mass)), FOLDS):
        others = np.ones(len(mass), np.bool_)
        others[fold] = False
        predicted[fold] = fit_ranker(features[others], mass[others]).predict(features[fold])
    return predicted


def _certainty(predicted: Array, losses: Array, mass: Array, share: float) -> float:
    """Return the share of resamples in which the prediction collects more than the loss."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(mass), (RESAMPLES, len(mass)))
    ahead = [gain_at(predicted[i], mass[i], share) > gain_at(losses[i], mass[i], share) for i in drawn]
    return float(np.mean(ahead))
