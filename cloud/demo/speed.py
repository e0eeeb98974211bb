"""How fast this machine is at what a demo does, as busy as it is now: seconds of single steps, for `plan.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from culling.cloud.bill.sizes import MOST_ENLARGED
from culling.cloud.demo.plan import BATCH, Speed
from culling.cloud.model.base import base_artefact
from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.detector import freeze
from culling.cloud.model.teacher import Teacher
from culling.cloud.model.train import Recipe, train
from culling.cloud.model.weights import load_weights
from culling.cloud.settings import CloudSettings
from culling.cloud.store.registry import Artefact, ModelFiles
from culling.common.errors import CameraError
from culling.common.frame import Detections
from culling.common.graph import Provider, open_graph
from culling.common.scaler import input_size, resize
from culling.common.video import count_frames, read_frames
from culling.common.wire.codec import encode_jpeg

PICTURES = 2
STEPS = 3
"""The first step of each kind plans and allocates, and is not counted."""

RATE = 1e-6
"""The trained weights are thrown away; so low a rate keeps them finite on any pictures."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Base:
    """The student that the demo starts with, in `files`."""

    artefact: Artefact
    files: ModelFiles

    @property
    def onnx(self) -> Path:
        """Where its graph lies."""
        return self.files.path(self.artefact.sha256, "onnx")


def measure_speed(
    settings: CloudSettings, teacher: Teacher, video: Path, fed: float, tell: Callable[[str], None]
) -> tuple[Speed, Base]:
    """Return the machine's speed on frames of the first part `fed` of a video, and the base student, exported for it.

    `teacher` shows frames with `TEACHER_SIDE` pixels; `tell` is told what is done next. Raises `CameraError` when the
    video cannot be read, `ModelError` for weights that cannot be used.
    """
    pictures = _pictures(video, fed)
    height, width = pictures[0].shape[:2]
    files = ModelFiles(settings.data_dir / "models")
    tell("exporting the first student, which takes about 4 s on two quiet cores …")
    started = time.monotonic()
    base = Base(base_artefact(settings, files), files)
    export_s = time.monotonic() - started
    tell(f"that took {export_s:.0f} s; timing frames of the student and the teacher, and steps of training …")
    student_s = _student_s(base, pictures)
    labels = teacher.label(pictures)
    threads, teacher_s = _teacher_s(teacher, pictures)
    torch.set_num_threads(threads)
    step_s = _step_s(base, pictures, labels)
    cores, most = os.cpu_count() or 1, MOST_ENLARGED * min(height, width)
    return Speed((width, height), cores, threads, student_s, teacher_s, step_s, export_s, most), base


def _pictures(video: Path, fed: float) -> list[Picture]:
    total = max(1, round(fed * count_frames(video)))
    found = [picture for _, picture in read_frames(video, {total * number // PICTURES for number in range(PICTURES)})]
    if not found:
        raise CameraError(f"{video}: no frame of it can be decoded; give another video")
    return found


def _student_s(base: Base, pictures: Sequence[Picture]) -> float:
    """Return the seconds of a frame as the edge infers it, on one thread."""
    provider: Provider = "cuda" if torch.cuda.is_available() else "cpu"
    graph = open_graph(base.onnx.read_bytes(), provider=provider, threads=1)
    inputs = [resize(one, *input_size(one.shape[1], one.shape[0])) for one in pictures]
    graph.run(inputs[0][None])
    return _mean([_seconds(partial(graph.run, one[None])) for one in inputs * 2])


def _teacher_s(teacher: Teacher, pictures: Sequence[Picture]) -> tuple[int, float]:
    """Return how many threads label fastest, all or one, and the seconds of a frame on those.

    Threads wait for each other at every layer. Where others use the cores too, one of them is always late: on two cores
    shared by eleven processes one thread labelled two to five times as fast as two.
    """
    seconds = {}
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        seconds[threads] = _seconds(lambda: teacher.label(pictures)) / len(pictures)
    best = min(seconds, key=lambda threads: seconds[threads])
    return best, seconds[best]


def _step_s(base: Base, pictures: Sequence[Picture], labels: Sequence[Detections]) -> float:
    """Return the seconds of a training step as rounds take it."""
    assert base.artefact.weights is not None, "a base always keeps its weights"
    model, _ = load_weights(base.files.path(base.artefact.weights, "safetensors"))
    freeze(model, 1)
    samples = [
        Sample(encode_jpeg(one), one.shape[1], one.shape[0], found, "speed")
        for one, found in zip(pictures, labels, strict=True)
    ]
    seconds: list[float] = []
    batches = Batcher(samples, BATCH, [input_size(samples[0].width, samples[0].height)])
    with TemporaryDirectory(prefix="culling-speed-") as folder:
        recipe = Recipe(STEPS, RATE)
        train(model, batches, recipe, Path(folder) / "checkpoint", lambda _, one: seconds.append(one))
    return _mean(seconds[1:])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)
