"""What each way to a trained student costs on a corpus: bills as of the loop (`bill/cost.py`), seconds as measured.

The paper's ratio (table 1) is that of two whole days: on one side the teacher labels every frame and the student is
trained on all of them; on the other the student runs on every frame, the teacher on those of the highest losses, and
training uses what is kept. optResolution, which the paper leaves out of that table, is counted on the culled side.
Held-out labels and the gate are not: a study has none. `culling bill` has the whole bill of a day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, median

from culling.cloud.bill.cost import (
    DAY_FRAMES,
    EDGE,
    LABELS,
    Bill,
    Cost,
    PerImage,
    StudentCost,
    culled_bill,
    full_bill,
)
from culling.cloud.bill.count import student_cost
from culling.cloud.study.basis.strategy import FACTOR
from culling.cloud.study.basis.training import ScaleSearch, TrainedStudent, Trainer


@dataclass(frozen=True)
class TrainedSelection:
    """A selection of frames and its students: the teacher labelled `labelled`, `kept` were trained on, once per seed.

    `search` is optResolution's on the kept frames, None for full training; the students are for `scale`. For full
    training fewer frames than all may stand, whose price is that of all nevertheless.
    """

    name: str
    labelled: Sequence[int]
    kept: Sequence[int]
    search: ScaleSearch | None
    students: Sequence[TrainedStudent]
    scale: float


class Prices:
    """The bills of selections of one corpus, on the clip and on the paper's day."""

    def __init__(self, trainer: Trainer) -> None:
        self._corpus = trainer.corpus
        self._start = trainer.start

    def clip(self, trained: TrainedSelection) -> Bill:
        """Return the cost of a selection on the clip, as measured; computed where few frames stand for all."""
        corpus, each = self._corpus, self.per_image(trained)
        if trained.search is None and len(trained.kept) < len(corpus):
            return full_bill(len(corpus), corpus.epochs, each)
        images = trained.students[0].steps * corpus.settings.round.batch
        training = Cost(mean(student.seconds for student in trained.students), each.training.gflops * images)
        labels = corpus.labels(trained.labelled)
        teacher = Cost(sum(seen.seconds for seen in labels), each.teacher.gflops * len(labels))
        if trained.search is None:
            return Bill({LABELS: teacher, "train": training})
        student = Cost(sum(seen.seconds for seen in corpus.seen), each.student.gflops * len(corpus))
        resolution = self._resolution(trained.search, len(trained.kept))
        return Bill({EDGE: student, LABELS: teacher, "resolution": resolution, "train": training})

    def day(self, trained: TrainedSelection) -> Bill:
        """Return its cost on a day, computed from the median seconds of an image (training: the mean)."""
        each = self.per_image(trained)
        if trained.search is None:
            return full_bill(DAY_FRAMES, self._corpus.epochs, each)
        kept = len(trained.kept)
        resolution = self._resolution(trained.search, kept)
        return culled_bill(DAY_FRAMES, FACTOR * kept, kept, self._corpus.epochs, each, resolution)

    def per_image(self, trained: TrainedSelection) -> PerImage:
        """Return the cost of an image at each stage."""
        corpus = self._corpus
        step_s = mean(student.step_s for student in trained.students)
        sizes = trained.students[0].sizes
        return PerImage(
            Cost(median(seen.seconds for seen in corpus.seen), self._student(corpus.size(corpus.scale))),
            Cost(median(seen.seconds for seen in corpus.labels(trained.labelled)), self._teacher),
            Cost(step_s / corpus.settings.round.batch, mean(self._training(size) for size in sizes)),
        )

    def _resolution(self, search: ScaleSearch, kept: int) -> Cost:
        return Cost(search.seconds, kept * sum(self._student(step.size) for step in search.steps))

    @cached_property
    def _teacher(self) -> float:
        counted = self._corpus.teacher.gflops(self._corpus.height, self._corpus.width)
        return math.nan if counted is None else counted  # then no ratio in GFLOPs is claimed

    @cached_property
    def _cost(self) -> StudentCost:
        return student_cost(self._start(), self._corpus.settings.round.frozen)

    def _student(self, size: tuple[int, int]) -> float:
        return self._cost.look.gflops(size)

    def _training(self, size: tuple[int, int]) -> float:
        return self._cost.learn.gflops(size)
