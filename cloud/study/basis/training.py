"""A student trained on a selection of a corpus, as a round would, and its scores: each is computed only once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
from torch import nn

from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.model.dataset import Batcher
from culling.cloud.model.distil.loss import LOSSES
from culling.cloud.model.family import family_of
from culling.cloud.model.train import Recipe, Run
from culling.cloud.model.weights import load_weights, save_weights
from culling.cloud.round.distil.distil import distilled
from culling.cloud.round.fit import (
    MakeLoss,
    Start,
    apprentice,
    apprentice_recipe,
    canvases,
    fixed_recipe,
    retrain,
    round_batches,
)
from culling.cloud.round.scale import opt_resolution, scales
from culling.cloud.study.basis.corpus import Corpus
from culling.common.graph import see
from culling.common.progress import shown

MEASURES = ("ap50", "ap50_95", "voc07")
TRUTHS = ("teacher", "labels")
MEASURED = {
    f"{title}, {truth}": f"{truth}_{measure}"
    for truth in TRUTHS
    for measure, title in zip(MEASURES[:2], ("AP50", "AP50:95"), strict=True)
}
"""The columns of a table, and the measure in each."""

APPRENTICE_SHARE = 0.5
"""The steps of an apprentice in 8 bits, as a share of those that it took in floats."""

KIND = "trial"
"""The kind of a training in the cache; another name would repeat every training of earlier studies."""


class TrainedStudent(msgspec.Struct, frozen=True):
    """A student and its training: weights file, steps, mean seconds per step, last loss, and input sizes."""

    weights: str
    steps: int
    step_s: float
    loss: float
    sizes: list[tuple[int, int]]

    @property
    def seconds(self) -> float:
        """What the training took, or would have taken if it had not been interrupted and resumed."""
        return self.steps * self.step_s


class Scores(msgspec.Struct, frozen=True):
    """Precisions of one student, against teacher and label file; None where those have nothing to measure against."""

    teacher: EvaluationResult | None
    labels: EvaluationResult | None

    def flat(self) -> dict[str, float | None]:
        """Return every precision under its name, e.g. `teacher_ap50`."""
        return {
            f"{truth}_{measure}": None if (result := getattr(self, truth)) is None else getattr(result, measure)
            for truth in TRUTHS
            for measure in MEASURES
        }


class ScaleStep(msgspec.Struct, frozen=True):
    """One point of an optResolution curve; `scale` is that of the student in use, 0.9^k of the study's full size."""

    k: int
    scale: float
    size: tuple[int, int]
    mse: float
    normalised: float


class ScaleSearch(msgspec.Struct, frozen=True):
    """The curve as far as it was followed, the chosen scale, and the seconds that the search took."""

    steps: list[ScaleStep]
    chosen: float
    seconds: float


class Trainer:
    """Trains and measures on `corpus`. Indices are those of its frames to learn from."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def over(self, chosen: Sequence[Sequence[int]], seeds: Sequence[int]) -> tuple[list[TrainedStudent], list[Scores]]:
        """Return a student for each seed, trained at full size on that seed's frames, and how right each is."""
        students = [self.train(frames, seed) for frames, seed in zip(chosen, seeds, strict=True)]
        return students, [self.score(student, self.corpus.scale) for student in students]

    def train(
        self,
        indices: Sequence[int],
        seed: int,
        scale: float | None = None,
        steps: int | None = None,
        spared: tuple[int, ...] = (),
        share: float = 1.0,
        distil: bool = False,
    ) -> TrainedStudent:
        """Return the student trained on those frames from the base one, for the input size at `scale` (none: full).

        It takes so many `steps`, or as many as the corpus's epochs are. Nothing is background to classes `spared`. Only
        a `share` of its weights moves. With `distil` the teacher's features teach it, too.
        """
        corpus, chosen = self.corpus, sorted(indices)
        frame, long_side = (corpus.width, corpus.height), corpus.settings.student.long_side
        sizes = canvases(frame, scale or corpus.scale, long_side, corpus.scale)
        taken = {"epochs": corpus.epochs} if steps is None else {"steps": steps}
        steps = steps or math.ceil(corpus.epochs * len(chosen) / corpus.settings.round.batch)
        decided = corpus.identity | {
            "frames": [corpus.shots[index].number for index in chosen],
            "seed": seed,
            "sizes": sizes,
            "round": corpus.settings.round.model_dump(include={"batch", "lr", "warmup", "frozen"}) | taken,
        }
        if spared:  # otherwise every training of earlier studies would be repeated
            decided |= {"spared": spared}
        if share < 1:
            decided |= {"share": share}
        if distil:
            decided |= {"distil": LOSSES}
        recipe = replace(fixed_recipe(corpus.settings.round, steps, seed), share=share)

        def taught(batches: Batcher) -> MakeLoss:
            return distilled(corpus.tutor.head, corpus.features(chosen), batches)

        return self._once(decided, chosen, sizes, recipe, self.start, spared, taught if distil else None)

    def apprentice(self, tutor: TrainedStudent, indices: Sequence[int], seed: int) -> TrainedStudent:
        """Return what becomes of a student in half as many further steps in 8 bits on the same frames."""
        corpus, chosen, settings = self.corpus, sorted(indices), self.corpus.settings.round
        steps = max(1, round(tutor.steps * APPRENTICE_SHARE))
        recipe = replace(apprentice_recipe(settings, steps), seed=seed)
        decided = {"tutor": tutor.weights, "seed": seed, "lr": recipe.lr, "in_int8": steps}
        decided |= settings.model_dump(include={"batch", "warmup", "frozen"})

        def start() -> nn.Module:
            model, _ = load_weights(corpus.memo.folder / tutor.weights)
            family_of(model).freeze(model, settings.frozen)
            return model

        return self._once(decided, chosen, tutor.sizes, recipe, start, (), apprentice)

    def _once(
        self,
        decided: Mapping[str, Any],
        indices: Sequence[int],
        sizes: list[tuple[int, int]],
        recipe: Recipe,
        start: Start,
        spared: tuple[int, ...],
        loss: Callable[[Batcher], MakeLoss] | None = None,
    ) -> TrainedStudent:
        """Train on those frames, unless a student that the same things decided is in the cache."""
        checkpoint = self.corpus.memo.path(KIND, decided, "checkpoint")

        def make() -> TrainedStudent:
            batches = round_batches(self.corpus.settings, self.corpus.samples(indices), sizes, recipe.seed, spared)
            return self._train(batches, recipe, start, loss(batches) if loss else None, checkpoint)

        return self.corpus.memo.once(KIND, decided, TrainedStudent, make)

    def _train(
        self, batches: Batcher, recipe: Recipe, start: Start, loss: MakeLoss | None, checkpoint: Path
    ) -> TrainedStudent:
        corpus = self.corpus
        spent: list[float] = []
        told = (
            f"training on {len(batches.samples)} frames, seed {recipe.seed}{', with a loss of its own' if loss else ''}"
        )
        with shown(told, "step", recipe.steps) as show:

            def on_step(run: Run, seconds: float) -> None:
                spent.append(seconds)
                show(run.step, f", loss {sum(run.losses[-1].values()):.3f}")

            model, run = retrain(start, batches, recipe, checkpoint, on_step=on_step, loss=loss)
        if not spent:  # it was killed after its last step, and the times of the steps are lost
            checkpoint.unlink()
            return self._train(batches, recipe, start, loss, checkpoint)
        path = checkpoint.with_suffix(".safetensors")
        save_weights(path, model, "fp16", corpus.graph.info.classes)
        checkpoint.unlink()
        last = mean(sum(losses.values()) for losses in run.losses[-20:])
        return TrainedStudent(path.name, run.step, mean(spent), last, list(batches.canvases))

    def start(self) -> nn.Module:
        """Return the base student, ready to be trained as a round trains."""
        model, _ = load_weights(self.corpus.base)
        family_of(model).freeze(model, self.corpus.settings.round.frozen)
        return model

    def score(self, student: TrainedStudent | None, scale: float) -> Scores:
        """Return how good `student` (None: the base student) is at the input size of `scale`."""
        corpus = self.corpus
        weights = corpus.memo.folder / student.weights if student else corpus.base
        decided = corpus.identity | corpus.truth | {"weights": weights.name, "at": scale}
        return corpus.memo.once("scores", decided, Scores, lambda: self._score(weights, scale))

    def _score(self, weights: Path, scale: float) -> Scores:
        scores = self.corpus.held_out.score(weights, scale, self.corpus.settings.student.long_side)
        return Scores(scores.teacher, scores.labels)

    def score_teacher(self) -> Scores:
        """Return how good the teacher is by the label file: no better than a student, it has nothing to teach it."""
        corpus = self.corpus
        decided = corpus.identity | corpus.truth | {"judged": "teacher"}

        def measure() -> Scores:
            return Scores(None, corpus.held_out.score_teacher(corpus.labeller, corpus.graph.info.classes))

        return corpus.memo.once("scores", decided, Scores, measure)

    def search(self, indices: Sequence[int], threshold: float | None = None) -> ScaleSearch:
        """Return optResolution's search on those frames with the base student; `threshold` None: that of the settings.

        Scales are those of the study's full size times 0.9^k.
        """
        settings = self.corpus.settings.resolution
        limit = settings.threshold if threshold is None else threshold
        numbers = [self.corpus.shots[index].number for index in indices]
        decided = self.corpus.identity | settings.model_dump() | {"threshold": limit, "frames": numbers}
        return self.corpus.memo.once("search", decided, ScaleSearch, lambda: self._search(indices, limit))

    def _search(self, indices: Sequence[int], threshold: float) -> ScaleSearch:
        corpus, settings = self.corpus, self.corpus.settings.resolution
        meter, started = corpus.meter(settings.policy), time.perf_counter()

        def losses(size: tuple[int, int]) -> list[float]:
            return [meter.loss(see(corpus.graph, corpus.picture(index), size)) for index in indices]

        inputs = scales(lambda scale: corpus.size(corpus.scale * scale), settings.max_steps, settings.min_scale)
        curve = opt_resolution(losses, inputs, threshold)
        seconds = time.perf_counter() - started
        steps = [
            ScaleStep(point.k, corpus.scale * point.scale, point.size, point.mse, point.normalised)
            for point in curve.points
        ]
        return ScaleSearch(steps, corpus.scale * curve.chosen.scale, seconds)
