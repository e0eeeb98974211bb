"""What the cloud's benches are measured on: frames of a video, and the bundled detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from culling.cloud.model.family import family_of
from culling.cloud.model.weights import load_bundled, load_weights
from culling.cloud.settings import RoundSettings
from culling.cloud.weights.index import Kind
from culling.common.errors import CameraError
from culling.common.graph import Provider, has_cuda
from culling.common.scaler import input_size, resize
from culling.common.video import count_frames, read_frames

Video = Annotated[Path, typer.Option(help="video whose frames are used", show_default="the bundled clip")]
Weights = Annotated[Path | None, typer.Option("--model", help="weights", show_default="the bundled ones")]
Picture = NDArray[np.uint8]


def read_pictures(video: Path, count: int) -> list[Picture]:
    """Return `count` frames spread over a video; a shorter one repeats. Raises `CameraError`."""
    total = count_frames(video)
    wanted = [number * total // count for number in range(count)]
    found = dict(read_frames(video, wanted))
    if not found:
        raise CameraError(f"{video}: it holds no picture")
    decoded = list(found.values())
    return [decoded[number % len(decoded)] for number in range(count)]


def student_inputs(video: Path, count: int) -> list[Picture]:
    """Return `count` frames of a video at the size of a student's input. Raises `CameraError`."""
    pictures = read_pictures(video, count)
    size = input_size(pictures[0].shape[1], pictures[0].shape[0])
    return [resize(picture, *size) for picture in pictures]


def load_detector(kind: Kind, path: Path | None) -> nn.Module:
    """Return the bundled detector of that kind, or the one in `path`, its trunk frozen as a round freezes it."""
    model, _ = load_bundled(kind) if path is None else load_weights(path)
    family_of(model).freeze(model, RoundSettings().frozen)
    return model


def choose_provider() -> Provider:
    """Return the provider that runs the models on this machine."""
    return "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"


def await_device(device: torch.device) -> None:
    """Wait until the device has finished: calls to a GPU return before their work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
