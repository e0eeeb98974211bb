"""The bill of a stated day, from settings alone: what the paper counts of it, and all that the loop computes.

Where a figure depends on what the camera sees, the most is taken: the whole allowance is labelled, each round scores,
tries every scale and judges three times over, as if nothing were there from the round before; no training ends early,
and optResolution finds that full size is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from culling.cloud.bill.cost import (
    ANSWERS,
    EDGE,
    LABELS,
    Bill,
    Cost,
    PerImage,
    Size,
    StudentCost,
    culled_bill,
    full_bill,
)

PAPER_FACTOR = 4
"""The paper's code labels so many times the frames that it keeps."""

GATE_LOOKS = 3
"""The student in use, the candidate, and the candidate once more at full size."""


@dataclass(frozen=True)
class Models:
    """What a pass of the student costs, and a `label`, in GFLOPs; and the input sizes of a camera.

    Those are the sizes that a round trains at, and all that optResolution compares, full size first; `checked` are
    those of the check of an export.
    """

    student: StudentCost
    label: float
    trained: Sequence[Size]
    compared: Sequence[Size]
    checked: Sequence[Size]

    @property
    def look(self) -> float:
        """GFLOPs of the student's pass at full size."""
        return self.student.look.gflops(self.compared[0])

    @property
    def each(self) -> PerImage:
        """The cost of an image as the paper counts: training at full size."""
        learn = self.student.learn.gflops(self.compared[0])
        return PerImage(Cost(gflops=self.look), Cost(gflops=self.label), Cost(gflops=learn))

    def compare(self, frames: int) -> float:
        """Return the GFLOPs of optResolution on so many frames."""
        return frames * sum(self.student.look.gflops(size) for size in self.compared)


@dataclass(frozen=True)
class Day:
    """A day of `frames`, of which `per_day` are labelled and `answers` answered at most, and the `rounds` that it has.

    Each keeps `kept` of them besides `replayed` ones, keeps `aside` of both out of training to look at every
    `look_every` steps of `batch`, shows the rest `passes` times, scores `scored` frames of the pool, and judges by
    `held_out` ones. The paper's one round has `labelled` frames.
    """

    frames: int
    rounds: int
    passes: float
    kept: int
    labelled: int
    per_day: int
    answers: int
    held_out: int
    scored: int
    replayed: int
    aside: int
    look_every: int
    batch: int

    def paper(self, models: Models) -> tuple[Bill, Bill]:
        """Return what the paper counts: the bill of one culled set, and that of full training."""
        resolution = Cost(gflops=models.compare(self.kept))
        culled = culled_bill(self.frames, self.labelled, self.kept, self.passes, models.each, resolution)
        return culled, full_bill(self.frames, self.passes, models.each)

    def whole(self, models: Models) -> Bill:
        """Return the bill with everything: all rounds, held-out labels and the gate."""
        training = self.kept + self.replayed
        learnt = (training - self.aside) * self.passes
        looks = (1 + math.ceil(learnt / self.batch / self.look_every)) * self.aside
        learn = mean(models.student.learn.gflops(size) for size in models.trained)
        checks = sum(models.student.look.gflops(size) for size in models.checked)
        stages = {
            "score": self.scored * models.look,
            "resolution": models.compare(training),
            "train": learnt * learn + looks * models.look,
            "export": checks,
            "gate": GATE_LOOKS * self.held_out * models.look,
        }
        labels = min(self.frames, self.per_day)
        parts = {EDGE: self.frames * models.look, LABELS: labels * models.label}
        if self.answers:
            parts[ANSWERS] = min(self.frames, self.answers) * models.label
        return Bill(
            {part: Cost(gflops=value) for part, value in parts.items()}
            | {part: Cost(gflops=value * self.rounds) for part, value in stages.items()}
        )


def ratio(full: Bill, own: Cost) -> float:
    """Return how many times as much full training costs, in GFLOPs."""
    return full.total.over(own).gflops
