"""Which frames of a training set a round keeps aside, to see by them when its training is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST = 24
"""Of fewer frames none is kept aside: the four that it would be tell little, and training would miss them."""

SHARE = 0.2
MOST = 32
"""Frames kept aside at most: every look costs a pass over them, and more would not change what it says."""

BLOCKS = 3
"""Stretches of time that they come from: one alone might show another hour than the rest."""


def keep_aside(times: Sequence[float]) -> list[int]:
    """Return the indices of the frames to keep aside, given when each was captured; none where they are too few.

    They are a few runs of frames that follow each other, cut where the pauses before and after are longest: frames of
    one moment look alike, and one that stands on both sides would be learnt by heart and count as progress.
    """
    if len(times) < LEAST:
        return []
    order = np.argsort(np.asarray(times, np.float64), kind="stable")
    # The first and the last frame stay to be trained on where others will do: the newest are what comes next.
    pauses = np.concatenate([[0.0], np.diff(np.asarray(times, np.float64)[order]), [0.0]])
    count = min(MOST, round(SHARE * len(times)))
    chosen: list[int] = []
    for block in range(BLOCKS):
        start, end = (len(order) * edge // BLOCKS for edge in (block, block + 1))
        size = count * (block + 1) // BLOCKS - count * block // BLOCKS
        first = max(range(start, end - size + 1), key=lambda at: min(pauses[at], pauses[at + size]))
        chosen += order[first : first + size].tolist()
    return chosen
