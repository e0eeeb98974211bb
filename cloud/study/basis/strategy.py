"""Ways to choose n frames to learn from: the strategies of the paper's table 2, and one whose first stage is learnt.

A frame is its index in the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.precision import Hardness, worst
from culling.cloud.round.rank import fit_ranker

FACTOR = 4
"""Confidence + precision asks the teacher about so many times the frames that it keeps."""

Judge = Callable[[Sequence[int]], Sequence[Hardness]]
"""Returns how wrong the student is on frames, which costs a run of the teacher."""


@dataclass(frozen=True)
class Material:
    """What a strategy chooses by: of each frame the confidence loss, `(N,)`, and what a ranker reads, `(N, F)`; and a
    judge, who is asked for what he knows.
    """

    losses: NDArray[np.float64]
    features: NDArray[np.float64]
    judge: Judge


def top(values: NDArray[np.float64], count: int) -> list[int]:
    """Return the `count` frames of the highest values, highest first; of equals, the earlier frame first."""
    return [int(index) for index in np.argsort(-values, kind="stable")[:count]]


def hardest(among: Sequence[int], judge: Judge, count: int) -> list[int]:
    """Return the `count` frames of `among` that the student gets most wrong, hardest first."""
    return [among[index] for index in worst(judge(among), count)]


def evenly(total: int, count: int) -> list[int]:
    """Return `count` of `total` frames at even distances: the paper's intermittent sampling."""
    return sorted({int(index) for index in np.linspace(0, total - 1, min(count, total))})


def culled(losses: NDArray[np.float64], judge: Judge, count: int, factor: int) -> list[int]:
    """Return the culled set: the `count` hardest of the `factor` times as many highest confidence losses."""
    return hardest(top(losses, factor * count), judge, count)


def missed(kept: NDArray[np.float64], left: NDArray[np.float64], count: int, weight: float = 1.0) -> float:
    """Return which share of the `count` hardest frames was `left`, each of which stands for `weight` frames.

    `kept` and `left` hold hardness. Frames that the student gets right do not count, and of equally hard frames the
    kept ones count first.
    """
    need, lost = float(count), 0.0
    for value in np.unique(np.concatenate([kept, left]))[::-1]:
        if value <= 0:
            break
        need -= min(need, float((kept == value).sum()))
        taken = min(need, weight * float((left == value).sum()))
        need, lost = need - taken, lost + taken
    return lost / (count - need) if need < count else 0.0


def learned(material: Material, count: int, factor: int, seed: int) -> list[int]:
    """Return the `count` hardest of the `factor` times as many that the teacher is asked about.

    The first `count` are drawn. They teach a ranker, which chooses the others.
    """
    drawn = _drawn(len(material.losses), count, seed)
    told = list(material.judge(drawn))
    ranker = fit_ranker(material.features[drawn], np.array([one.value for one in told]))
    rank = ranker.predict(material.features)
    rank[drawn] = -np.inf
    others = top(rank, min((factor - 1) * count, len(rank) - len(drawn)))
    asked = drawn + others
    return [asked[index] for index in worst([*told, *material.judge(others)], count)]


STRATEGIES: dict[str, Callable[[Material, int, int, int], list[int]]] = {
    "interval": lambda material, count, factor, seed: evenly(len(material.losses), count),
    "random": lambda material, count, factor, seed: _drawn(len(material.losses), count, seed),
    "confidence": lambda material, count, factor, seed: top(material.losses, count),
    "precision": lambda material, count, factor, seed: hardest(range(len(material.losses)), material.judge, count),
    "confidence + precision": lambda material, count, factor, seed: culled(
        material.losses, material.judge, count, factor
    ),
    "learned + precision": learned,
}
"""Strategies by name: each takes what there is to choose by, count, factor and seed, and returns frames."""


def _drawn(total: int, count: int, seed: int) -> list[int]:
    rng: Any = np.random.default_rng(seed)
    return sorted(int(index) for index in rng.choice(total, min(count, total), replace=False))
