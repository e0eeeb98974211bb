"""Which frames to train on, free of I/O: the n that teach most and are not one burst, and a replay of everything else.

diverse     the frames of most worth, of which each counts less the more of its mistakes are already chosen: the same
            class in the same part of the picture; frames near in time wait until nothing else is left
replayed    frames of every hour of the day and every class, those that the others lack first
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from culling.cloud.archive.day import hour_of
from culling.cloud.evaluation.mistakes import Mistakes

GRID = 6
"""Cells along each side of the picture: what is wrong in one cell is one parked car, or one place where people walk."""

SPACINGS_S = (30.0, 10.0, 3.0, 0.0)
"""Least distance of two frames in time. The next one is tried when no frame is left at the one before."""

AMONG = 16
"""Frames of the highest worth to choose from, for each one wanted; others teach too little to be chosen for variety."""


Values = NDArray[np.float64]


@dataclass(frozen=True)
class PoolFrame:
    """What one frame would teach: its time in epoch seconds, its worth, and where it is worth something.

    `places` is `(D,)`, at least 0, and sums to `worth`; `empty` says that nothing true is in it: a hard negative.
    """

    at: float
    worth: float
    places: Values
    empty: bool = False


def places(found: Mistakes, worth: float, width: int, height: int, classes: int) -> Values:
    """Return `worth` spread over class and part of the picture, `(classes · GRID²,)`, as the mistakes are."""
    spread = np.zeros(classes * GRID**2)
    if not len(found.weights):
        return spread
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    cells = (GRID * centres / (width, height)).astype(int).clip(0, GRID - 1)
    np.add.at(spread, found.labels * GRID**2 + cells[:, 1] * GRID + cells[:, 0], found.weights)
    return np.asarray(worth * spread / spread.sum())


def diverse(
    frames: Sequence[PoolFrame], count: int, most_empty: int, beat: Callable[[], None] = lambda: None
) -> list[int]:
    """Return the indices of at most `count` frames, the best first; at most `most_empty` of them are empty.

    `beat` is called for each: thousands of them take minutes. The gain of a frame is its worth in each place, divided
    by 1 plus the worth that was chosen there already.
    """
    ranked = np.array(sorted(range(len(frames)), key=lambda at: (-frames[at].worth, at))[: AMONG * count], int)
    if not len(ranked):
        return []
    spread = np.array([frames[at].places for at in ranked])
    times, empty = (np.array([getattr(frames[at], name) for at in ranked]) for name in ("at", "empty"))
    open_, apart = np.ones(len(ranked), np.bool_), np.full(len(ranked), np.inf)
    chosen: list[int] = []
    taught = np.zeros(spread.shape[1])
    while len(chosen) < min(count, len(ranked)):
        if empty[chosen].sum() >= most_empty:
            open_ &= ~empty
        spaced = next((left for least in SPACINGS_S if (left := open_ & (apart >= least)).any()), None)
        if spaced is None:
            break
        gains = np.where(spaced, (spread / (1.0 + taught)).sum(1), -1.0)
        best = int(gains.argmax())
        chosen.append(best)
        beat()
        open_[best] = False
        taught += spread[best]
        apart = np.minimum(apart, np.abs(times - times[best]))
    return [int(at) for at in ranked[chosen]]


def replayed(
    strata: Sequence[Collection[tuple[int, int]]], trained: Sequence[Collection[tuple[int, int]]], count: int, seed: int
) -> list[int]:
    """Return the indices of at most `count` frames, so that every stratum has as even a share as can be.

    `strata` are the (hour, class) of the frames to draw from, `trained` those of frames that are trained on anyway: a
    stratum that these lack comes first. Of one stratum frames are drawn at random, by `seed`.
    """
    rng = np.random.default_rng(seed)
    held = Counter(stratum for one in trained for stratum in one)
    waiting: dict[tuple[int, int], list[int]] = {}
    for at in rng.permutation(len(strata)):
        for stratum in strata[at]:
            waiting.setdefault(stratum, []).append(int(at))
    drawn: list[int] = []
    taken: set[int] = set()
    while waiting and len(drawn) < count:
        rarest = min(waiting, key=lambda stratum: (held[stratum], stratum))
        at = waiting[rarest].pop()
        if not waiting[rarest]:
            del waiting[rarest]
        if at in taken:
            continue
        drawn.append(at)
        taken.add(at)
        held.update(strata[at])
    return drawn


def strata(at: float, labels: Collection[int]) -> set[tuple[int, int]]:
    """Return the strata of a frame captured then, in epoch seconds: its hour of the day with each class, or with -1."""
    hour = hour_of(at)
    return {(hour, int(label)) for label in labels} or {(hour, -1)}
