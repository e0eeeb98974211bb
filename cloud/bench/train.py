"""`culling bench train`: images/s trained on, against the same model's bare forward and backward."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from torch import nn

from culling.cloud.bench.material import (
    Picture,
    Video,
    Weights,
    await_device,
    choose_provider,
    load_detector,
    read_pictures,
)
from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.export import run_torch
from culling.cloud.model.family import family_of
from culling.cloud.model.half import half_precision
from culling.cloud.model.train import Recipe, train
from culling.cloud.settings import RoundSettings
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, at_least
from culling.common.graph import to_frame
from culling.common.scaler import input_size, resize
from culling.common.video import BUNDLED_CLIP
from culling.common.wire.codec import encode_jpeg


def train_command(
    video: Video = BUNDLED_CLIP,
    model: Weights = None,
    steps: Annotated[int, typer.Option(min=1, help="steps a side and round")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="images a step")] = RoundSettings().batch,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Images/s of the training loop as rounds run it, against bare forward and backward on prepared batches."""
    pictures = read_pictures(video, 2 * batch)
    batches = _batches(load_detector("student", model), pictures, batch)
    mine, bare = bench.in_turn(
        rounds,
        lambda: train_speed(load_detector("student", model), batches, steps),
        lambda: bare_training(load_detector("student", model), batches, steps),
    )
    comparison = Comparison(
        "train",
        Measured("images trained on", "images/s", mine),
        Measured("the bare forward and backward", "images/s", bare),
        at_least(0.9),
    )
    bench.print_report(Report("train", (comparison,), machine=bench.machine(choose_provider())), as_json)


def train_speed(model: nn.Module, batches: Batcher, steps: int) -> float:
    """Return images/s of the training loop, including its last checkpoint."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        started = time.perf_counter()
        train(model, batches, Recipe(steps, lr=1e-4), Path(folder) / "checkpoint")
        return steps * batches.batch / (time.perf_counter() - started)


def bare_training(model: nn.Module, batches: Batcher, steps: int) -> float:
    """Return images/s of forward and backward alone, on the same batches, prepared before."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).to(memory_format=torch.channels_last).train()
    made = [batches(step) for step in range(steps)]
    placed = [
        (images.to(device, memory_format=torch.channels_last), [target.to(device) for target in targets])
        for images, targets in made
    ]
    started = time.perf_counter()
    for images, targets in placed:
        with half_precision(device):
            losses = family_of(model).loss(model, images, targets)
        model.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
    await_device(device)
    return steps * batches.batch / (time.perf_counter() - started)


def _batches(model: nn.Module, pictures: Sequence[Picture], batch: int) -> Batcher:
    """Return batches of `pictures` as a round makes them, labelled by `model` itself."""
    samples = []
    for picture in pictures:
        height, width = picture.shape[:2]
        size = input_size(width, height)
        [found] = run_torch(model, resize(picture, *size)[None])
        samples.append(Sample(encode_jpeg(picture), width, height, to_frame(found, size, (height, width)), "bench"))
    return Batcher(samples, batch, [size])
