"""What stands for all frames, where training on all of them takes too long, as of a day: random sets that double.

Each is twice as large as the one before, up to the first that no longer gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from culling.cloud.study.basis.training import Scores, TrainedStudent, Trainer

MANY = 8
"""Everything is trained on where it is at most so many times the largest set that is chosen."""

GAINS = 0.005
"""A random set still gains where its students' mean AP50, by the teacher, is so much above that of half as many."""


@dataclass(frozen=True)
class Stand:
    """A set of frames for each seed, the students that were trained on them, and how right those are; `gains` over the
    set before.
    """

    chosen: Sequence[list[int]]
    students: Sequence[TrainedStudent]
    scores: Sequence[Scores]
    whole: bool
    gains: bool

    @property
    def name(self) -> str:
        """What a table calls it."""
        return "full" if self.whole else "random, for full"

    @property
    def size(self) -> int:
        """How many frames each set has."""
        return len(self.chosen[0])


def stands(trainer: Trainer, largest: int, seeds: Sequence[int], before: float | None = None) -> Iterator[Stand]:
    """Yield what stands for all frames beside chosen sets of at most `largest`; the last one is all or gains nothing.

    `before` is the mean AP50, by the teacher, of random sets of `largest`, None where it is not known.
    """
    total = len(trainer.corpus)
    orders = [np.random.default_rng(seed).permutation(total).tolist() for seed in seeds]
    for size in sizes(largest, total):
        chosen = [order[:size] for order in orders]
        students, scores = trainer.over(chosen, seeds)
        known = [one.teacher.ap50 for one in scores if one.teacher]
        ap50 = mean(known) if len(known) == len(scores) else None
        gains = ap50 is None or before is None or ap50 - before >= GAINS
        yield Stand(chosen, students, scores, size == total, gains)
        if not gains:
            return
        before = ap50


def sizes(largest: int, total: int) -> list[int]:
    """Return the sizes of the sets that stand for all of `total` frames, beyond sets of `largest`."""
    if total <= MANY * largest:
        return [total]
    doubled = [largest * 2**power for power in range(1, total.bit_length())]
    return [*(size for size in doubled if size <= total // 2), total]
