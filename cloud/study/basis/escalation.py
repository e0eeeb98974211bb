"""The teacher's boxes in place of a student's, on those frames with labels that it is asked about: a cascade on a clip.

It has neither a deadline nor an allowance, and the worst frames are those of the whole part: a threshold that follows
the stream, as the edge has, knows only those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.evaluation.holdout import HeldOut, Truth
from culling.cloud.study.basis.corpus import Corpus
from culling.common.errors import InputError


class Escalation:
    """The held-back frames of `corpus` that have labels, with the teacher's answers."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        only_labelled = replace(corpus.measured, numbers=frozenset())
        self._held = HeldOut(only_labelled, corpus.labeller, corpus.interest)
        self._answers = self._held.answers(corpus.labeller, corpus.graph.info.classes)

    def __len__(self) -> int:
        return len(self._answers)

    def own(self, weights: Path) -> Truth:
        """Return what a student says of each of them, at the full size of the study."""
        corpus = self._corpus
        found = self._held.found(weights, corpus.scale, corpus.settings.student.long_side)
        return {number: found[number] for number in self._answers}

    def unsure(self, own: Truth) -> list[int]:
        """Return the frames in the order in which the teacher is asked: those of the highest confidence loss first."""
        meter = self._corpus.meter("paper")
        losses = {number: meter.loss(own[number]) for number in sorted(own)}
        return sorted(losses, key=lambda number: -losses[number])

    def hindsight(self, own: Truth) -> list[int]:
        """Return the frames where the teacher's answer mends most first, by the label file: what no edge can know.

        No order leaves less mistake mass.
        """
        student, teacher = (self._held.mistakes_by_labels(found) for found in (own, self._answers))
        return sorted(student, key=lambda number: teacher[number].mass - student[number].mass)

    def drawn(self, seed: int) -> list[int]:
        """Return the frames in a random order."""
        return [int(number) for number in np.random.default_rng(seed).permutation(sorted(self._answers))]

    def score(self, own: Truth, order: Sequence[int], share: float) -> EvaluationResult:
        """Return how good it is by the label file if the teacher answers the first `share` of the frames in `order`.

        Raises InputError without labels to measure by.
        """
        return known(self._held.by_labels(mixed(own, self._answers, order, share)))

    def mass(self, own: Truth, order: Sequence[int], share: float) -> float:
        """Return the mistake mass by the label file, mean over the frames, that is left then."""
        left = self._held.mistakes_by_labels(mixed(own, self._answers, order, share))
        return fmean(one.mass for one in left.values())


def mixed(own: Truth, answers: Truth, order: Sequence[int], share: float) -> Truth:
    """Return the student's detections with the teacher's in place of the first `share` of the frames in `order`."""
    return own | {number: answers[number] for number in order[: round(share * len(order))]}


def known(result: EvaluationResult | None) -> EvaluationResult:
    """Return a result by the label file. Raises InputError where that shows nothing to measure by."""
    if result is None:
        raise InputError("--labels: no frame of the part that is held back has an object to measure by")
    return result
