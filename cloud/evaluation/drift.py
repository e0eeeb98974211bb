"""Whether a student has become worse, all day or in one part of it, by more than chance explains. Pure.

The newest audits of a part of the day are held against earlier ones of the same part. If nothing had changed, each
block of five minutes could as well be one of the others: so they are shuffled, and a fall counts that so few of the
shuffles reach that all looks of `LOOKS` days, at every part, find one by chance in 1 - `CERTAINTY` of students at most
(Bonferroni). No shape of distribution is assumed, but one day's weather is: a week of fog is a fall.

What the newest are held against, by part of the day:

- the student's own first audits, up to `MOST_BEFORE`: how right it was when it came, as long as frames are kept;
- while there are too few of them, the newest of the student before it, on the same hours: a student may have forgotten
  the night before its first one is over. The fall says so (`by_other`);
- where neither is there, nothing: the part is not looked at.

It is looked at once a day, in both directions. Where the scene became easier, and the student certainly better, no
round is due; but what it is held against starts anew with the better audits, or a later fall would hide behind a
figure from harder days. All parts together are looked at as well. Blocks are shuffled within each hour of the day, so
that a night more or less on either side does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.archive.day import BAND_FRAMES, HOURS, Part, hour_of, parts_of_day
from culling.cloud.evaluation.accuracy import BLOCK_S, RESAMPLES, Estimate, Intervals
from culling.cloud.evaluation.bootstrap import Array, resample
from culling.cloud.evaluation.tally import Ranked, Tally, rank

AUDITS = 60
"""Newest audits that are looked at, of each part of the day: more would take weeks to be all of a student that fell."""
MOST_BEFORE = 2 * AUDITS
LEAST = 20
"""Audits on either side; fewer show a collapse alone, and the overall figure shows it before."""
PARTS = 4
"""Parts of the day, at most: each look costs certainty."""

CERTAINTY = 0.95
LOOK_S = 86_400.0
LOOKS = 30
"""Days of looks that share the doubt: frames are kept for as many, and most students are replaced before."""

SHUFFLES = (40, 360, 9600)
ENOUGH = 8
"""Once so many shuffles reach a difference it is chance (Besag and Clifford 1991), and the next, many more, are saved.
"""


@dataclass(frozen=True)
class Audit:
    """A labelled audit: when it was captured (seconds), its `probability`, and what the student did, in one class."""

    at: float
    probability: float
    seen: Tally


class Fall(msgspec.Struct, frozen=True):
    """By how much AP50 a student fell: `now` with its interval, and `before`, in `part` of the day ("" for all of it).

    `by_other`: before is what the student before it did.
    """

    part: str
    now: Estimate
    before: float
    by_other: bool

    @property
    def size(self) -> float:
        """By how much it fell."""
        return self.before - self.now.value

    def told(self) -> str:
        """Return it as a person reads it."""
        where = f" at {self.part} UTC" if self.part else ""
        other = " with the student before" if self.by_other else ""
        now = self.now
        return f"worse{where}: {now.value:.2f} ({now.low:.2f} to {now.high:.2f}), was {self.before:.2f}{other}"


class Watched(msgspec.Struct, frozen=True):
    """What is known after a look: its time (that of the newest audit), the `falls`, and from when on audits count as
    before: `since[h]` for hour h of the day, and last for the whole day; seconds.
    """

    at: float
    falls: tuple[Fall, ...] = ()
    since: tuple[float, ...] = (0.0,) * (HOURS + 1)


def watch(audits: Sequence[Audit], other: Sequence[Audit], last: Watched | None) -> Watched | None:
    """Return what the audits of a student say, in any order; `last` as long as its look is less than a day old.

    `other` are the newest of the student before it, captured before any of `audits`. None without an audit.
    """
    mine, other = (sorted(each, key=lambda audit: audit.at) for each in (audits, other))
    if not mine or (last is not None and mine[-1].at < last.at + LOOK_S):
        return last
    since = list((last or Watched(0.0)).since)
    hours = [hour_of(audit.at) for audit in mine]
    parts = parts_of_day(hours, max(BAND_FRAMES, -(-len(mine) // PARTS)))
    whole = Part(0, HOURS)
    tests = [whole, *(parts if len(parts) > 1 else ())]
    level, falls = (1 - CERTAINTY) / (LOOKS * len(tests)), []
    for part in tests:
        places = [HOURS] if part == whole else range(part.start, part.end)
        sides = _sides(mine, other, part, max(since[place] for place in places))
        if sides is None:
            continue
        gain, fell, rose = difference(sides)
        if fell <= level and gain < 0:
            falls.append(_fall(sides, "" if part == whole else part.name))
        if rose <= level and gain > 0 and not sides.by_other:
            for place in places:
                since[place] = sides.now[0].at
    return Watched(mine[-1].at, tuple(sorted(falls, key=lambda fall: -fall.size)), tuple(since))


@dataclass(frozen=True)
class Sides:
    """The newest audits of a part of the day, and those that they are held against: `by_other`, of another student."""

    now: Sequence[Audit]
    before: Sequence[Audit]
    by_other: bool


def _sides(mine: Sequence[Audit], other: Sequence[Audit], part: Part, since: float) -> Sides | None:
    own = [audit for audit in mine if audit.at >= since and part.start <= hour_of(audit.at) < part.end]
    count = min(AUDITS, len(own) // 2)
    if count >= LEAST:
        return Sides(own[-count:], own[:-count][:MOST_BEFORE], by_other=False)
    earlier = [audit for audit in other if part.start <= hour_of(audit.at) < part.end][-MOST_BEFORE:]
    if since or min(len(own), len(earlier)) < LEAST:
        return None
    return Sides(own[-AUDITS:], earlier, by_other=True)


def difference(sides: Sides) -> tuple[float, float, float]:
    """Return by how much AP50 is higher now, and how likely chance makes it as low, or as high."""
    both = [*sides.now, *sides.before]
    ranked, weights = rank([audit.seen for audit in both], 0), _weights(both)
    late = np.arange(len(both)) < len(sides.now)
    [found] = _gains(ranked, weights, late[None])
    if np.isnan(found):
        return 0.0, 1.0, 1.0
    rng, lower, higher, done = np.random.default_rng(0), 0, 0, 0
    for count in SHUFFLES:
        gains = _gains(ranked, weights, _shuffled(both, late, count, rng))
        unknown = int(np.isnan(gains).sum())
        lower += int((gains <= found + 1e-9).sum()) + unknown
        higher += int((gains >= found - 1e-9).sum()) + unknown
        done += count
        if min(lower, higher) >= ENOUGH:
            break
    return float(found), (1 + lower) / (1 + done), (1 + higher) / (1 + done)


def _gains(ranked: Ranked, weights: Array, late: NDArray[np.bool_]) -> Array:
    """Return AP50 of the frames that `late` `(R, F)` marks less that of the others, `(R,)`."""
    return ranked.precision(weights * late) - ranked.precision(weights * ~late)


def _shuffled(
    audits: Sequence[Audit], late: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which frames are late in each of `count` shuffles of blocks, `(count, F)`: as many blocks in each hour.

    A block of which frames are on both sides counts to the late ones.
    """
    names, place = np.unique(np.array([audit.at // BLOCK_S for audit in audits]), return_inverse=True)
    taken = np.zeros(len(names), np.bool_)
    taken[place[late]] = True
    hours = np.array([hour_of(BLOCK_S * name) for name in names])
    found = np.zeros((count, len(names)), np.bool_)
    for hour in np.unique(hours):
        inside = np.flatnonzero(hours == hour)
        order = rng.random((count, len(inside))).argsort(axis=1).argsort(axis=1)
        found[:, inside] = order < taken[inside].sum()
    return found[:, place]


def _fall(sides: Sides, name: str) -> Fall:
    now, before = (rank([audit.seen for audit in side], 0) for side in (sides.now, sides.before))
    weights = _weights(sides.now)
    blocks = np.unique(np.array([audit.at for audit in sides.now]) // BLOCK_S, return_inverse=True)[1]
    drawn = np.vstack([weights, weights * resample(blocks, RESAMPLES, 0)])
    estimate = Intervals(len(np.unique(blocks))).estimate(now.precision(drawn))
    assert estimate is not None, "what fell is a number"
    return Fall(name, estimate, float(before.precision(_weights(sides.before)[None])[0]), sides.by_other)


def _weights(audits: Sequence[Audit]) -> Array:
    return np.array([1.0 / audit.probability for audit in audits])
