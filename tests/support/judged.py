"""Frames that judge, without a picture: students that find each object, and see things, by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from culling.cloud.evaluation.comparison import Judged
from culling.cloud.evaluation.tally import Tally


def tally(*classes: tuple[int, Sequence[float], Sequence[float]]) -> Tally:
    """Return a tally of one class after another: objects, scores of what hits one, scores of false alarms."""
    scores, hits = [], []
    for _, right, wrong in classes:
        both = np.array([*right, *wrong], np.float32)
        order = np.argsort(-both, kind="stable")
        scores.append(both[order])
        hits.append((np.arange(len(both)) < len(right))[order])
    return Tally(tuple(objects for objects, _, _ in classes), tuple(scores), tuple(hits))


def seen(rng: np.random.Generator, objects: Sequence[int], recall: float) -> Tally:
    """Return what a student does that finds an object with a chance of `recall`, and errs as often as it misses."""
    rows = []
    for count in objects:
        right = 0.4 + 0.6 * rng.random(rng.binomial(count, recall))
        wrong = 0.1 + 0.6 * rng.random(rng.poisson((1 - recall) * (count + 0.1)))
        rows.append((count, right, wrong))
    return tally(*rows)


def judged(
    rng: np.random.Generator,
    frames: int,
    before: float,
    after: float,
    hours: Sequence[int] = (12,),
    block: int = 4,
    objects: Sequence[float] = (5.0, 1.0),
) -> list[Judged]:
    """Return frames in blocks, each block of one of the `hours` in turn, by two students of such recalls."""
    found = []
    for number in range(frames):
        count = [int(rng.poisson(mean)) for mean in objects]
        hour = hours[number // block % len(hours)]
        pair = seen(rng, count, before), seen(rng, count, after)
        found.append(Judged(f"{number:05d}", number // block, hour, 1.0, *pair))
    return found
