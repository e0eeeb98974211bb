"""Which held-out frames judge: an archive of every hour of the day and every class, and not the newest frames alone.

A student that is trained by day would be gated by day, and meet the night in use. So the frames are sorted into strata,
one for each hour of the day (UTC) and rarest class, and taken from each stratum in turn. What comes last in that order
is dropped first where room is short: it is of a stratum that has more than the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.archive.day import hour_of


@dataclass(frozen=True)
class Archived:
    """A held-out frame: when it was `captured` (seconds since the epoch), the `block` of time that it is of, whether it
    was `drawn` at random, and the `classes` that are seen in it.
    """

    name: str
    captured: float
    block: int
    drawn: bool
    classes: frozenset[int]


def in_order(frames: Sequence[Archived]) -> list[str]:
    """Return the names of the frames, those that judge best first: any first part of it is a stratified archive.

    Within a stratum frames that were drawn at random go first, since those that were chosen for their loss under the
    student in use flatter any other; then those that add a block of time; then the newest.
    """
    common = Counter(label for frame in frames for label in frame.classes)
    strata: dict[tuple[int, int], list[Archived]] = defaultdict(list)
    for frame in frames:
        rarest = min(frame.classes, key=lambda label: (common[label], label), default=-1)
        strata[hour_of(frame.captured), rarest].append(frame)
    placed = [
        (place, not frame.drawn, -frame.captured, frame.name)
        for stratum in strata.values()
        for place, frame in enumerate(_spread(stratum))
    ]
    return [name for *_, name in sorted(placed)]


def _spread(stratum: Sequence[Archived]) -> list[Archived]:
    """Return the frames of a stratum in the order in which they are taken."""
    taken: Counter[tuple[bool, int]] = Counter()
    keyed = []
    for frame in sorted(stratum, key=lambda frame: (-frame.captured, frame.name)):
        keyed.append(((not frame.drawn, taken[frame.drawn, frame.block], -frame.captured, frame.name), frame))
        taken[frame.drawn, frame.block] += 1
    return [frame for _, frame in sorted(keyed, key=lambda item: item[0])]
