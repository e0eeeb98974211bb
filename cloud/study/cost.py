"""What each way to a trained student costs, in seconds and in GFLOPs (2 x multiply-adds), and their ratios.

The paper's ratio (table 1) is that of two whole days: on one side the teacher labels every frame and the student is
trained on all of them; on the other the student runs on every frame, the teacher on those of the highest losses, and
training uses what is kept. optResolution, which the paper leaves out of that table, is counted on the culled side. The
incremental ratio leaves out the student's pass, which an edge makes anyway.

Seconds are as measured on this machine; GFLOPs are counted on the corpus's first frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import run_torch
from culling.cloud.model.losses import Target, detection_loss
from culling.cloud.round.fit import round_batches
from culling.cloud.study.strategy import FACTOR
from culling.cloud.study.training import ScaleSearch, TrainedStudent, Trainer
from culling.common.scaler import resize

DAY_FRAMES = 86_400
"""The paper's day: one frame a second."""


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine, and GFLOPs on any."""

    seconds: float = 0.0
    gflops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.gflops + other.gflops)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, self.gflops * times)

    def over(self, other: Cost) -> Cost:
        """Return this cost divided by `other`, in both units; infinite where `other` is 0."""
        return Cost(_ratio(self.seconds, other.seconds), _ratio(self.gflops, other.gflops))


NOTHING = Cost()


@dataclass(frozen=True)
class Bill:
    """The cost of one way to a trained student, by stage."""

    student: Cost = NOTHING
    teacher: Cost = NOTHING
    resolution: Cost = NOTHING
    training: Cost = NOTHING

    @property
    def total(self) -> Cost:
        """All stages together."""
        return self.incremental + self.student

    @property
    def incremental(self) -> Cost:
        """All stages but the student's pass."""
        return self.teacher + self.resolution + self.training


@dataclass(frozen=True)
class PerImage:
    """The cost of one image at each stage; for `training`, of showing it once."""

    student: Cost
    teacher: Cost
    training: Cost


def full_bill(frames: int, epochs: float, each: PerImage) -> Bill:
    """Return the cost of labelling and training on every frame."""
    return Bill(teacher=each.teacher * frames, training=each.training * (frames * epochs))


def culled_bill(frames: int, labelled: int, kept: int, epochs: float, each: PerImage, resolution: Cost) -> Bill:
    """Return the cost of culling `frames` to the `labelled` highest losses and the `kept` hardest of those."""
    training = each.training * (kept * epochs)
    return Bill(each.student * frames, each.teacher * min(labelled, frames), resolution, training)


def forward_gflops(model: FasterRCNN, image: NDArray[np.uint8]) -> float:
    """Return the GFLOPs of a detector on one image `(H, W, 3)` of its input size."""
    with FlopCounterMode(display=False) as counter:
        run_torch(model, image[None])
    return float(counter.get_total_flops() / 1e9)


def training_gflops(model: FasterRCNN, images: Tensor, targets: Sequence[Target]) -> float:
    """Return the GFLOPs of one training step, forward and backward, per image of the batch."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        losses = detection_loss(model.train(), images.to(device), [target.to(device) for target in targets])
        torch.stack(list(losses.values())).sum().backward()
    return float(counter.get_total_flops() / 1e9 / len(images))


@dataclass(frozen=True)
class TrainedSelection:
    """A selection of frames and its students: the teacher labelled `labelled`, `kept` were trained on, once per seed.

    `search` is optResolution's on the kept frames, None for full training; the students are for `scale`.
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
        self._image = trainer.corpus.picture(0)
        self._forward: dict[tuple[int, int], float] = {}
        self._step: dict[tuple[int, int], float] = {}

    def clip(self, trained: TrainedSelection) -> Bill:
        """Return the cost of a selection on the clip, as measured."""
        corpus, each = self._corpus, self.per_image(trained)
        images = trained.students[0].steps * corpus.settings.round.batch
        training = Cost(mean(student.seconds for student in trained.students), each.training.gflops * images)
        labels = corpus.labels(trained.labelled)
        teacher = Cost(sum(seen.seconds for seen in labels), each.teacher.gflops * len(labels))
        if trained.search is None:
            return Bill(teacher=teacher, training=training)
        student = Cost(sum(seen.seconds for seen in corpus.seen), each.student.gflops * len(corpus))
        return Bill(student, teacher, self._resolution(trained.search, len(trained.kept)), training)

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


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf")
