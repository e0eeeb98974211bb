"""How few wrong answers in a sample prove that few are wrong in all: Clopper and Pearson's bound, for drawn frames.

Frames are drawn without putting them back, so the count in the sample is hypergeometric. For a long video that is the
binomial distribution of Clopper and Pearson (1934); for a short one the same argument takes fewer frames.
"""

from __future__ import annotations

from math import exp, lgamma

CONFIDENCE = 0.95


def at_most(seen: int, sample: int, wrong: int, total: int) -> float:
    """Return how likely at most `seen` wrong ones are in a `sample` of `total` answers of which `wrong` are wrong."""
    if seen >= min(sample, wrong):
        return 1.0
    least = max(0, sample - (total - wrong))
    ways = _choose(total, sample)
    terms = (exp(_choose(wrong, k) + _choose(total - wrong, sample - k) - ways) for k in range(least, seen + 1))
    return min(1.0, sum(terms))


def certified(seen: int, sample: int, allowed: int, total: int) -> bool:
    """Return whether `seen` wrong answers in a `sample` say that of `total` at most `allowed` are, by `CONFIDENCE`."""
    return allowed >= total or at_most(seen, sample, allowed + 1, total) <= 1 - CONFIDENCE


def needed(allowed: int, total: int, seen: int = 0) -> int:
    """Return how many frames must be drawn so that `seen` wrong ones among them certify `allowed` in `total`."""
    low, high = min(seen + 1, total), total
    while low < high:
        middle = (low + high) // 2
        if certified(seen, middle, allowed, total):
            high = middle
        else:
            low = middle + 1
    return low


def _choose(total: int, count: int) -> float:
    """Return the logarithm of the number of ways to draw `count` of `total`."""
    return lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
