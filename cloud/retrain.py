"""Training that goes on over what gets in its way: a stop, a damaged checkpoint, a GPU too small for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
import torch
from safetensors import SafetensorError
from torchvision.models.detection import FasterRCNN

from culling.cloud.dataset import Batcher
from culling.cloud.train import Recipe, Run, train
from culling.common.errors import ModelError, StorageError, TrainingError

log = structlog.get_logger(__name__)

Start = Callable[[], FasterRCNN]


def retrain(
    start: Start, batches: Batcher, recipe: Recipe, checkpoint: Path, stop: Callable[[], bool]
) -> tuple[FasterRCNN, Run]:
    """Return the model that `start` makes, trained, and its run: fewer steps than the recipe's after a `stop`.

    It goes on from `checkpoint` if there is one that can be read, and once with half the batch where the GPU has no
    memory for a whole one. Raises TrainingError where that is not enough either, StorageError for a full disk.
    """
    for size in (batches.batch, max(1, batches.batch // 2)):
        try:
            return _resume(start, replace(batches, batch=size), recipe, checkpoint, stop)
        except torch.OutOfMemoryError:
            log.warning("training_out_of_memory", batch=size)
        torch.cuda.empty_cache()
    raise TrainingError(f"the GPU has no memory for a batch of {size}: lower round.batch, or student.long_side")


def _resume(
    start: Start, batches: Batcher, recipe: Recipe, checkpoint: Path, stop: Callable[[], bool]
) -> tuple[FasterRCNN, Run]:
    for attempt in ("resumed", "anew"):
        model = start()
        try:
            return model, train(model, batches, recipe, checkpoint, stop=stop)
        except ModelError:
            if attempt == "anew" or not checkpoint.exists():
                raise
            checkpoint.unlink()  # it was damaged: what it held is not worth more than a round
        except SafetensorError as error:
            raise StorageError(f"cannot write {checkpoint}: {error}") from None
    raise AssertionError
