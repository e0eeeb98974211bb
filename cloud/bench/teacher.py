"""`culling bench teacher`: images/s labelled, against the same model's bare forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
import typer
from torchvision.models.detection import FasterRCNN

from culling.cloud.bench.material import (
    Picture,
    Video,
    Weights,
    await_device,
    choose_provider,
    load_detector,
    read_pictures,
)
from culling.cloud.model.half import half_precision
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.bundled import Bundled
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, at_least
from culling.common.scaler import resize
from culling.common.video import BUNDLED_CLIP


def teacher_command(
    video: Video = BUNDLED_CLIP,
    model: Weights = None,
    frames: Annotated[int, typer.Option(min=1, help="frames a side and round")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="frames at a time")] = TeacherPart().batch,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Images/s that the bundled ResNet-101 labels, from whole frames, against its bare forward on prepared inputs."""
    detector = load_detector("teacher", model)
    teacher = Bundled(detector, batch=batch)
    pictures = read_pictures(video, frames)
    mine, bare = bench.in_turn(
        rounds, partial(label_speed, teacher, pictures), bare_forward(detector, teacher, pictures, batch)
    )
    comparison = Comparison(
        "teacher",
        Measured("frames labelled", "images/s", mine),
        Measured("the bare forward", "images/s", bare),
        at_least(0.9),
    )
    bench.print_report(Report("teacher", (comparison,), machine=bench.machine(choose_provider())), as_json)


def label_speed(teacher: Bundled, pictures: Sequence[Picture]) -> float:
    """Return images/s of the teacher as rounds use it."""
    started = time.perf_counter()
    teacher.label(pictures)
    return len(pictures) / (time.perf_counter() - started)


def bare_forward(model: FasterRCNN, teacher: Bundled, pictures: Sequence[Picture], batch: int) -> Callable[[], float]:
    """Return a function that measures images/s of `model` alone, on the inputs and batches that `teacher` gives it."""
    device = next(model.parameters()).device
    inputs = [resize(picture, *teacher.input_size(*picture.shape[:2])) for picture in pictures]
    images = [torch.from_numpy(one).permute(2, 0, 1).float().to(device) / 255 for one in inputs]
    batches = [images[start : start + batch] for start in range(0, len(images), batch)]

    def run() -> float:
        started = time.perf_counter()
        with torch.inference_mode(), half_precision(device):
            for one in batches:
                model(one)
        await_device(device)
        return len(images) / (time.perf_counter() - started)

    return run
