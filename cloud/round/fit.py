"""The fit stage (`train` in the index): train the camera's student on the culled set.

It starts from the weights in use, and copes with a stop, a damaged checkpoint, and a GPU too small for a batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
import torch
from safetensors import SafetensorError
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.detector import freeze
from culling.cloud.model.train import Recipe, Run, train
from culling.cloud.model.weights import load_weights, save_weights
from culling.cloud.round.context import Context, RefusedError, Result, Results, StoppedError, frame_size, labels
from culling.cloud.round.scale import FACTOR
from culling.cloud.settings import CloudSettings, RoundSettings
from culling.cloud.store.rounds import Round
from culling.common.errors import ModelError, StorageError, TrainingError
from culling.common.scaler import input_size

log = structlog.get_logger(__name__)

Start = Callable[[], FasterRCNN]
OnStep = Callable[[Run, float], None]

CURVE_POINTS = 80
"""The index keeps every round's curve, which must stay small however long a round trains."""

JITTER = (0.85, 1.15)
"""Range of the random zoom: a fixed camera's objects keep their size, so it is narrower than in pre-training."""


def fit(context: Context, turn: Round, results: Results) -> Result:
    """Train from the newest weights of the camera; a run that was cut short resumes from its checkpoint."""
    settings = context.settings.round
    frames = context.settled(turn.camera, context.store.get(results["cull"]["kept"] + results["cull"]["replay"]))
    samples = [
        Sample(jpeg, frame.width, frame.height, labels(frame), frame.id) for frame, jpeg in context.pictures(frames)
    ]
    sizes = canvases(frame_size(frames), results["resolution"]["scale"], context.settings.student.long_side)
    batches = round_batches(context.settings, samples, sizes, settings.seed + turn.id)
    recipe = round_recipe(settings, len(samples), settings.seed)
    started = time.monotonic()
    checkpoint = context.folder / "train.checkpoint"
    model, run = retrain(lambda: _warm_start(context, turn.camera), batches, recipe, checkpoint, context.stopping)
    if run.step < recipe.steps:
        raise StoppedError
    train_s = round(time.monotonic() - started, 1)
    path = context.folder / "candidate.safetensors"
    save_weights(path, model, "fp16")
    return {
        "steps": recipe.steps,
        "train_s": train_s,
        "losses": _curve(run),
        "weights": context.files.add(path.read_bytes(), "safetensors"),
    }


def canvases(frame: tuple[int, int], scale: float, long_side: int, full: float = 1.0) -> list[tuple[int, int]]:
    """Return the input sizes to train at, for frames of `(width, height)`.

    They are the size at `scale`, one step smaller, and at `full`, which the next round compares scales with.
    """
    return list(dict.fromkeys(input_size(*frame, each, long_side) for each in (scale, scale * FACTOR, full)))


def round_batches(
    settings: CloudSettings, samples: Sequence[Sample], sizes: Sequence[tuple[int, int]], seed: int
) -> Batcher:
    """Return the batches that a round trains on."""
    return Batcher(
        samples,
        settings.round.batch,
        sizes,
        JITTER,
        score_floor=settings.teacher.true_score,
        ignore_floor=settings.teacher.min_score,
        seed=seed,
    )


def round_recipe(settings: RoundSettings, images: int, seed: int) -> Recipe:
    """Return how a round trains on so many images."""
    steps = math.ceil(settings.epochs * images / settings.batch)
    return Recipe(steps, settings.lr, warmup=settings.warmup, checkpoint_every_s=settings.checkpoint_s, seed=seed)


def retrain(
    start: Start,
    batches: Batcher,
    recipe: Recipe,
    checkpoint: Path,
    stop: Callable[[], bool] = lambda: False,
    on_step: OnStep = lambda run, seconds: None,
) -> tuple[FasterRCNN, Run]:
    """Train the model that `start` makes; return it and its run, which after a `stop` has fewer steps than the recipe.

    A `checkpoint` that can be read is resumed. If the GPU has no memory for a batch, half a batch is tried once. Raises
    TrainingError if that does not fit either, StorageError if the checkpoint cannot be written.
    """
    for size in (batches.batch, max(1, batches.batch // 2)):
        try:
            return _resume(start, replace(batches, batch=size), recipe, checkpoint, stop, on_step)
        except torch.OutOfMemoryError:
            log.warning("training_out_of_memory", batch=size)
        torch.cuda.empty_cache()
    raise TrainingError(f"the GPU has no memory for a batch of {size}: lower round.batch or student.long_side")


def _resume(
    start: Start, batches: Batcher, recipe: Recipe, checkpoint: Path, stop: Callable[[], bool], on_step: OnStep
) -> tuple[FasterRCNN, Run]:
    for attempt in ("resumed", "restarted"):
        model = start()
        try:
            return model, train(model, batches, recipe, checkpoint, on_step, stop=stop)
        except ModelError:
            if attempt == "restarted" or not checkpoint.exists():
                raise
            checkpoint.unlink()  # it is damaged: its steps are worth less than the round
        except SafetensorError as error:
            raise StorageError(f"cannot write {checkpoint}: {error}") from None
    raise AssertionError


def _curve(run: Run) -> list[tuple[int, float]]:
    """Return the training curve as at most `CURVE_POINTS` (step, mean loss since the point before)."""
    sums = [sum(losses.values()) for losses in run.losses]
    stride = max(1, math.ceil(len(sums) / CURVE_POINTS))
    parts = [sums[start : start + stride] for start in range(0, len(sums), stride)]
    return [(index * stride + len(part), round(sum(part) / len(part), 4)) for index, part in enumerate(parts)]


def _warm_start(context: Context, camera: str) -> FasterRCNN:
    for known in context.registry.models(camera):
        if (weights := known.artefact.weights) is not None and known.state in ("live", "previous", "retired"):
            path = context.files.path(weights, "safetensors")
            if path.exists():
                context.files.read(weights, "safetensors")  # raises if its bytes are damaged
                model = load_weights(path)[0]
                freeze(model, context.settings.round.frozen)
                return model
    raise RefusedError(f"camera {camera} has no weights to start from: all its models were published as ONNX")
