"""Candidate against incumbent, pairwise: by how much it is better, how far that may be off, and where it is worse.

Everything is a difference of two students on the same resample of the same blocks of time (`bootstrap.py`):

gain      the difference of AP50, mean over the classes, each by what there is to judge it by (`class_weights`)
classes   the difference of each class's AP50
hours     the gain within a part of the day, where frames of more than one part judge
alarms    of a class that has next to no labels: by how much the share of frames with a false alarm falls

The last three are checks: none may lose more than its own margin. Pure functions of frames; no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.cloud.archive.day import BAND_FRAMES, parts_of_day
from culling.cloud.evaluation.bootstrap import LEAST_BLOCKS, Array, effective, lower_bound, resample
from culling.cloud.evaluation.tally import Tally, rank

RESAMPLES = 1000
"""A percentile of 5 % is then known to about half a per cent."""

SHRINK = 10.0
"""A class of n objects weighs n / (n + 10): one bus a tenth of what a crowd of people does, and not as much."""

FEW_OBJECTS = 5
"""The AP of fewer objects is chance: of such a class only false alarms are compared."""

ENOUGH_OBJECTS = 100
ENOUGH_FRAMES = 32
"""From so many on (and `LEAST_BLOCKS`) a check is made by its bound; fewer are too few for a bound that could pass."""

Kind = Literal["class", "hours", "alarms"]


@dataclass(frozen=True)
class Judged:
    """One frame that judges: the `block` of time that it is of, its `hour` of the day (UTC), how much it counts, and
    what both students did on it. `name` orders frames, so that the order in which they come changes nothing.
    """

    name: str
    block: int
    hour: int
    weight: float
    before: Tally
    after: Tally


@dataclass(frozen=True)
class Rules:
    """How students are compared: by the `labels` of interest (indices), with `certainty` in [0, 1], one-sided.

    `worse` is what a check with enough to go by may lose.
    """

    labels: tuple[int, ...]
    worse: float = 0.1
    certainty: float = 0.95
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Check:
    """A class (named by its index), a part of the day or the false alarms of a class, before and after.

    `judged` counts its objects, or frames; `low` is the lower bound of the gain, None where there is too little for
    one. Both `gain` and, if there is one, `low` are held against `margin`.
    """

    kind: Kind
    name: str
    before: float
    after: float
    judged: int
    margin: float
    low: float | None = None

    @property
    def gain(self) -> float:
        """By how much the candidate is better; below 0 where it is worse."""
        return self.before - self.after if self.kind == "alarms" else self.after - self.before

    @property
    def likely(self) -> bool:
        """Whether the candidate is not worse by more than the margin, as far as the figure itself tells."""
        return self.gain >= -self.margin

    @property
    def passed(self) -> bool:
        """Whether that is certain, where there is enough to be certain by: half the margin for the figure itself."""
        return self.likely if self.low is None else self.low >= -self.margin and self.gain >= -self.margin / 2


@dataclass(frozen=True)
class StudentComparison:
    """Both students on the same frames: weighted AP50, the lower bound of the gain, and the checks, worst first."""

    before: float
    after: float
    low: float
    frames: int
    blocks: int
    certainty: float
    checks: tuple[Check, ...]

    @property
    def gain(self) -> float:
        """By how much the candidate's AP50 is higher."""
        return self.after - self.before


def compare_students(frames: Sequence[Judged], rules: Rules) -> StudentComparison | None:
    """Return how the candidate does beside the incumbent; None where no frame has anything true of interest."""
    ordered = sorted(frames, key=lambda frame: frame.name)
    whole = _Sample(ordered, rules)
    if not whole.labels:
        return None
    before, after = whole.figures(whole.labels)
    checks = [*_class_checks(whole, rules), *_hour_checks(whole, rules), *_alarm_checks(whole, rules)]
    return StudentComparison(
        float(before[0]),
        float(after[0]),
        _low(after[1:] - before[1:], whole, rules),
        len(ordered),
        whole.count,
        rules.certainty,
        tuple(sorted(checks, key=lambda check: check.gain + check.margin)),
    )


def class_weights(objects: Sequence[int]) -> Array:
    """Return how much each class counts in a mean, `(C,)`, summing to 1: by its objects, levelling off."""
    counts = np.asarray(objects, np.float64)
    each = counts / (counts + SHRINK)
    return np.asarray(each / each.sum())


def allowed(margin: float, judged: int, enough: int = ENOUGH_OBJECTS) -> float:
    """Return what a figure of so many objects, or frames, may lose: `margin`, and where there are fewer than `enough`
    more than that, by the root of what it lacks, since it is that much less certain.
    """
    return margin * math.sqrt(max(1.0, enough / judged))


class _Sample:
    """Frames under 1 + R weightings, the first of which is that of the frames as they are."""

    def __init__(self, frames: Sequence[Judged], rules: Rules, weightings: Array | None = None) -> None:
        self.frames = frames
        self.sides = [frame.before for frame in frames], [frame.after for frame in frames]
        self.rules = rules
        self.blocks = np.array([frame.block for frame in frames], np.int64)
        self.weights = np.array([frame.weight for frame in frames], np.float64)
        self.count = len(np.unique(self.blocks))
        if weightings is None and frames:
            drawn = resample(self.blocks, rules.resamples, rules.seed)
            weightings = np.vstack([np.ones(len(frames)), drawn]) * self.weights
        self.weightings = np.zeros((1, 0)) if weightings is None else weightings
        self.objects = {label: sum(frame.before.objects[label] for frame in frames) for label in rules.labels}
        self.labels = [label for label, count in self.objects.items() if count]

    def part(self, which: NDArray[np.bool_]) -> _Sample:
        """Return the frames that `which` `(F,)` marks, under the same weightings."""
        chosen = [frame for frame, inside in zip(self.frames, which, strict=True) if inside]
        return _Sample(chosen, self.rules, self.weightings[:, which])

    def precisions(self, label: int) -> tuple[Array, Array]:
        """Return a class's AP50 before and after, each `(1 + R,)`."""
        before, after = (rank(side, label).precision(self.weightings) for side in self.sides)
        return before, after

    def figures(self, labels: Sequence[int]) -> tuple[Array, Array]:
        """Return the mean AP50 before and after, `(1 + R,)` each; a class that a resample lacks is left out of it."""
        sides = zip(*(self.precisions(label) for label in labels), strict=True)
        weights = class_weights([self.objects[label] for label in labels])[:, None]
        means = []
        for side in sides:
            table = np.stack(side)
            known = ~np.isnan(table)
            total = (weights * known).sum(0)
            mean = (weights * np.where(known, table, 0.0)).sum(0) / np.where(total > 0, total, 1.0)
            means.append(np.where(total > 0, mean, np.nan))
        return means[0], means[1]

    def alarms(self, label: int) -> tuple[Array, Array]:
        """Return the share of frames with a false alarm of a class, before and after, `(1 + R,)` each."""
        total = self.weightings.sum(1)
        raised = [[seen.alarmed(label) for seen in side] for side in self.sides]
        before, after = (
            self.weightings @ np.array(one, np.float64) / np.where(total > 0, total, 1.0) for one in raised
        )
        return before, after

    def sure(self, judged: int, enough: int) -> bool:
        """Return whether there is enough for a bound."""
        return judged >= enough and self.count >= LEAST_BLOCKS


def _class_checks(whole: _Sample, rules: Rules) -> list[Check]:
    found = []
    for label in whole.labels:
        if (count := whole.objects[label]) < FEW_OBJECTS:
            continue
        having = np.array([frame.before.objects[label] > 0 for frame in whole.frames], np.bool_)
        sure = whole.sure(count, ENOUGH_OBJECTS) and len(np.unique(whole.blocks[having])) >= LEAST_BLOCKS
        margin = allowed(rules.worse, count)
        found.append(_check("class", str(label), *whole.precisions(label), count, margin, whole if sure else None))
    return found


def _hour_checks(whole: _Sample, rules: Rules) -> list[Check]:
    hours, found = [frame.hour for frame in whole.frames], []
    bands = parts_of_day(hours)
    for band in bands if len(bands) > 1 else ():
        part = whole.part(band.holds(hours))
        if part.labels:
            count = len(part.frames)
            sides = part.figures(part.labels)
            margin = allowed(rules.worse, count, BAND_FRAMES)
            found.append(
                _check("hours", band.name, *sides, count, margin, part if part.sure(count, ENOUGH_FRAMES) else None)
            )
    return found


def _alarm_checks(whole: _Sample, rules: Rules) -> list[Check]:
    found = []
    for label in rules.labels:
        if whole.objects[label] < FEW_OBJECTS:
            count = len(whole.frames)
            sure = whole if whole.sure(count, ENOUGH_FRAMES) else None
            found.append(_check("alarms", str(label), *whole.alarms(label), count, rules.worse, sure))
    return found


def _check(
    kind: Kind, name: str, before: Array, after: Array, judged: int, margin: float, sure: _Sample | None
) -> Check:
    low = None
    if sure is not None:
        low = _low(before[1:] - after[1:] if kind == "alarms" else after[1:] - before[1:], sure, sure.rules)
    return Check(kind, name, float(before[0]), float(after[0]), judged, margin, low)


def _low(gains: Array, sample: _Sample, rules: Rules) -> float:
    """Return the lower bound of a gain; minus infinity where there are too few blocks to be certain of anything."""
    if rules.certainty > 0.5 and sample.count < LEAST_BLOCKS:
        return -math.inf
    return lower_bound(gains, effective(sample.blocks, sample.weights), rules.certainty)
