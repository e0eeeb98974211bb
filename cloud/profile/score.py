"""What each profile would cost and lose, by labelled audits: a share of looks, and the change of AP50 with its bound.

An audit stands for 1 / probability frames, as for measured accuracy. Its echo tells which answers would have stood for
it; they are weighed by how likely each is (`options.py`). All classes are in one list. Both sides of a comparison are
on the same resamples of blocks of time, so that what they share does not count as doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from msgspec.structs import replace

from culling.cloud.evaluation.bootstrap import LEAST_BLOCKS, Array, effective, lower_bound, resample
from culling.cloud.evaluation.tally import Tally, rank
from culling.cloud.profile.options import FULL, shares, stands
from culling.common.wire.echo import Echo
from culling.common.wire.profile import Profile

CERTAINTY = 0.95
"""One-sided, of a bound by itself."""

RESAMPLES = 200
"""The lower end of an interval of hundreds of audits: more would hold up the service that chooses for a second."""


@dataclass(frozen=True)
class Audit:
    """A labelled audit with its echo: its `block` and `hour` of time, and for how many frames it stands (`weight`).

    `tallies` are what its own look has right, and then each answer of the echo, in one class.
    """

    block: int
    hour: int
    weight: float
    echo: Echo
    tallies: Sequence[Tally]


class Scored(msgspec.Struct, frozen=True):
    """A profile: the `share` of frames that it has looked at, the change of AP50 from a look at each, and its bound."""

    profile: Profile = FULL
    share: float = 1.0
    change: float = 0.0
    low: float = 0.0

    def told(self) -> str:
        """Return it as a person reads it."""
        if self.profile == FULL:
            return "every frame"
        lost = f"AP50 {self.change:+.3f}, at least {self.low:+.3f}"
        return f"{self.profile}, {self.share:.0%} of its frames: {lost}"


@dataclass(frozen=True)
class Right:
    """AP50 of a look at each frame, and its bound; NaN where there is no object."""

    ap50: float
    low: float


def lacks(blocks: Collection[int], least: int) -> str | None:
    """Return what audits of these `blocks` of time, one for each, lack to choose by; None where they suffice."""
    moments = len(set(blocks))
    if len(blocks) >= least and moments >= LEAST_BLOCKS:
        return None
    return (
        f"{len(blocks)} labelled audits of {moments} {'block' if moments == 1 else 'blocks'} of time; {least} of "
        f"{LEAST_BLOCKS} are needed"
    )


EVERY = Scored()
"""Nothing is spared, and nothing lost."""


class Trial:
    """Audits by which profiles are compared; a figure is the same for the same audits."""

    def __init__(self, audits: Sequence[Audit]) -> None:
        self._audits = audits
        self._weights = np.array([audit.weight for audit in audits])
        self._blocks = np.array([audit.block for audit in audits], np.int64)

    @property
    def right(self) -> Right:
        """How right the student is where it looks at each of these frames."""
        low = lower_bound(self._full[1:], effective(self._blocks, self._weights), CERTAINTY)
        return Right(float(self._full[0]), min(low, float(self._full[0])))

    def look(self, profile: Profile) -> Scored:
        """Return what a profile costs and loses, without a bound: `low` is minus infinity. It takes no resamples."""
        each = self._shares(profile)
        looked = np.array([1 / stands(profile, audit.echo) for audit in self._audits])
        share = float(self._weights @ looked / self._weights.sum())
        change = float(self._precision(each, self._weights[None])[0] - self._full[0])
        return Scored(profile, share, 0.0 if np.isnan(change) else change, -np.inf)

    def score(self, profile: Profile) -> Scored:
        """Return what a profile costs and loses; `low` is minus infinity where nothing can be said."""
        changes = self._precision(self._shares(profile), self._drawn) - self._full
        low = lower_bound(changes[1:], effective(self._blocks, self._weights), CERTAINTY)
        seen = self.look(profile)
        return replace(seen, low=min(low, seen.change))

    @cached_property
    def _full(self) -> Array:
        return self._precision(self._shares(FULL), self._drawn)

    @cached_property
    def _drawn(self) -> Array:
        return np.vstack([self._weights, self._weights * resample(self._blocks, RESAMPLES, 0)])

    def _shares(self, profile: Profile) -> Array:
        return np.array([shares(profile, audit.echo) for audit in self._audits])

    def _precision(self, each: Array, drawn: Array) -> Array:
        """Return AP50 under each weighting `drawn` `(R, F)`, `(R,)`, with answers weighed by `each` `(F, 1 + AGES)`."""
        owner, age = np.nonzero(each)
        pairs = zip(owner.tolist(), age.tolist(), strict=True)
        ranked = rank([self._audits[at].tallies[place] for at, place in pairs], 0)
        return ranked.precision(drawn[:, owner] * each[owner, age])
