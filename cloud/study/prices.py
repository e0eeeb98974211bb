"""What the stages of a study's trainings cost: seconds as measured, GFLOPs as counted on the corpus's first frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, median

from culling.cloud.round.fit import round_batches
from culling.cloud.study.cost import (
    DAY_FRAMES,
    Bill,
    Cost,
    PerImage,
    culled_bill,
    forward_gflops,
    full_bill,
    training_gflops,
)
from culling.cloud.study.training import ScaleSearch, Trial, Trials
from culling.common.scaler import resize


@dataclass(frozen=True)
class Trained:
    """A selection that was trained on: frames the teacher `labelled` for it, the `kept` ones, a training a seed.

    `search` is optResolution's on the kept frames, None where they are all there are; students are for `scale`.
    """

    name: str
    labelled: Sequence[int]
    kept: Sequence[int]
    search: ScaleSearch | None
    trials: Sequence[Trial]
    scale: float


class Prices:
    """The bills of selections of one corpus, on the clip and on the paper's day."""

    def __init__(self, trials: Trials) -> None:
        self._corpus = trials.corpus
        self._start = trials.start
        self._image = trials.corpus.picture(0)
        self._forward: dict[tuple[int, int], float] = {}
        self._step: dict[tuple[int, int], float] = {}

    def clip(self, trained: Trained) -> Bill:
        """Return what a selection cost on the clip."""
        corpus, each = self._corpus, self.per_image(trained)
        images = trained.trials[0].steps * corpus.settings.round.batch
        training = Cost(mean(trial.seconds for trial in trained.trials), each.training.gflops * images)
        labels = corpus.labels(trained.labelled)
        teacher = Cost(sum(seen.seconds for seen in labels), each.teacher.gflops * len(labels))
        if trained.search is None:
            return Bill(teacher=teacher, training=training)
        student = Cost(sum(seen.seconds for seen in corpus.seen), each.student.gflops * len(corpus))
        return Bill(student, teacher, self._resolution(trained.search, len(trained.kept)), training)

    def day(self, trained: Trained) -> Bill:
        """Return what it would cost on a day, computed from the median seconds of an image (training: the mean)."""
        settings, each = self._corpus.settings.round, self.per_image(trained)
        if trained.search is None:
            return full_bill(DAY_FRAMES, settings.epochs, each)
        kept = len(trained.kept)
        resolution = self._resolution(trained.search, kept)
        return culled_bill(DAY_FRAMES, settings.factor * kept, kept, settings.epochs, each, resolution)

    def per_image(self, trained: Trained) -> PerImage:
        """Return what an image costs at each stage."""
        corpus = self._corpus
        step_s = mean(trial.step_s for trial in trained.trials)
        sizes = trained.trials[0].sizes
        return PerImage(
            Cost(median(seen.seconds for seen in corpus.seen), self._student(corpus.size(corpus.scale))),
            Cost(median(seen.seconds for seen in corpus.labels(range(len(corpus)))), self._teacher),
            Cost(step_s / corpus.settings.round.batch, mean(self._training(size) for size in sizes)),
        )

    def _resolution(self, search: ScaleSearch, kept: int) -> Cost:
        return Cost(search.seconds, kept * sum(self._student(step.size) for step in search.steps))

    @cached_property
    def _teacher(self) -> float:
        teacher = self._corpus.teacher
        size = teacher.input_size(self._corpus.height, self._corpus.width)
        return forward_gflops(teacher.model, resize(self._image, *size))

    def _student(self, size: tuple[int, int]) -> float:
        if size not in self._forward:
            self._forward[size] = forward_gflops(self._start(), resize(self._image, *size))
        return self._forward[size]

    def _training(self, size: tuple[int, int]) -> float:
        if size not in self._step:
            batches = round_batches(self._corpus.settings, self._corpus.samples([0]), [size], seed=0)
            self._step[size] = training_gflops(self._start(), *batches(0))
        return self._step[size]
