"""How much two students differ on a frame, and on which frames most. Pure functions; no labels are asked.

    difference  =  sum of s          over boxes of either that no box of the other matches
                +  sum of |s - s'|   over boxes of both that match

s is a student's score of a box. Boxes match that are of one class and overlap by at least `SAME`, those that overlap
most first. Who of both is right is another question, which the labels answer beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from culling.common.frame import Detections, iou

MOST = 8
"""Frames that a person looks through; more would not be."""

OF_BLOCK = 2
"""Frames of one block of time look alike: of each no more than so many."""

LEAST = 0.2
"""A smaller difference is no box more or less: one counts from this score on."""

SAME = 0.5
"""The overlap from which two boxes are the same object; as in AP50."""


@dataclass(frozen=True)
class Pair:
    """What two students found in a frame of a `block` of time, boxes in its pixels, labels by one class list."""

    frame: str
    block: int
    before: Detections
    after: Detections


@dataclass(frozen=True)
class Different:
    """A pair, and how much its students differ."""

    pair: Pair
    difference: float


def most_different(pairs: Iterable[Pair], most: int = MOST, of_block: int = OF_BLOCK) -> list[Different]:
    """Return the frames on which both differ most, in that order, at most `most`, and `of_block` of each block."""
    told = (Different(pair, difference(pair.before, pair.after)) for pair in pairs)
    ordered = sorted(
        (one for one in told if one.difference >= LEAST), key=lambda one: (-one.difference, one.pair.frame)
    )
    taken, found = Counter[int](), list[Different]()
    for one in ordered:
        if len(found) < most and taken[one.pair.block] < of_block:
            taken[one.pair.block] += 1
            found.append(one)
    return found


def difference(before: Detections, after: Detections) -> float:
    """Return how much both differ, at least 0; 0 where they found the same."""
    matched = _matched(before, after)
    alone = float(before.scores.sum()) + float(after.scores.sum())
    both = sum(float(before.scores[one]) + float(after.scores[other]) for one, other in matched)
    moved = sum(abs(float(before.scores[one]) - float(after.scores[other])) for one, other in matched)
    return max(0.0, round(alone - both + moved, 6))


def _matched(before: Detections, after: Detections) -> list[tuple[int, int]]:
    """Return the places of boxes that match, `before` and `after`."""
    same = before.labels[:, None] == after.labels[None]
    overlaps = np.where(same, iou(before.boxes, after.boxes), 0.0)
    rows, columns = np.nonzero(overlaps >= SAME)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    found: list[tuple[int, int]] = []
    ours, theirs = set[int](), set[int]()
    for one, other in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if one not in ours and other not in theirs:
            found.append((one, other))
            ours.add(one)
            theirs.add(other)
    return found
