"""What the edge's benches are measured on: a video, and the student that is run on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import av
import numpy as np
import typer
from numpy.typing import NDArray

from culling.common.clock import DAY_S
from culling.common.errors import CameraError, CullingError, InputError, MissingExtraError
from culling.common.graph import check
from culling.common.scaler import LONG_SIDE, input_size, scale_picture
from culling.common.video import BUNDLED_CLIP, count_frames, play
from culling.common.wire.manifest import Manifest

Video = Annotated[Path | None, typer.Option(help="video to play", show_default="the bundled clip")]
Model = Annotated[Path | None, typer.Option(help="student as ONNX", show_default="the bundled one, exported first")]
Threads = Annotated[int, typer.Option(min=0, help="threads of one operator; 0: as onnxruntime chooses")]


@dataclass(frozen=True)
class Material:
    """A video to play, and the model to run on it; `size` is the `(height, width)` of the model's input."""

    video: Path
    total: int
    model: bytes
    classes: tuple[str, ...]
    size: tuple[int, int]

    def pictures(self, count: int) -> list[av.VideoFrame]:
        """Return the first `count` pictures; a shorter video repeats. Raises `CameraError`."""
        found = list(islice(_pictures(self.video), count))
        return [found[number % len(found)] for number in range(count)]

    def inputs(self, count: int) -> list[NDArray[np.uint8]]:
        """Return those pictures as inputs of the student, each `(1, height, width, 3)` RGB."""
        return [scale_picture(picture, *self.size)[None] for picture in self.pictures(count)]

    def manifest(self, camera: str, counter: int, model: bytes, scale: float = 1.0) -> Manifest:
        """Return a manifest of `model` that is valid for a day."""
        return Manifest(
            model_id=f"{camera}-{counter}",
            camera=camera,
            counter=counter,
            sha256=hashlib.sha256(model).hexdigest(),
            size=len(model),
            scale=scale,
            long_side=LONG_SIDE,
            classes=self.classes,
            parent=None,
            created=time.time(),
            expires=time.time() + DAY_S,
        )


def gather(video: Path | None, model: Path | None) -> Material:
    """Return the material to measure on; None means the bundled clip, or the bundled student.

    Raises `CameraError` if `video` cannot be read as one, `InputError` or `ModelError` if `model` cannot be used.
    """
    video = video or BUNDLED_CLIP
    total = count_frames(video)
    first = next(_pictures(video), None)
    if first is None:
        raise CameraError(f"{video}: there is no picture in it")
    size = input_size(first.width, first.height)
    data = bundled_student() if model is None else _read(model)
    return Material(video.resolve(), total, data, check(data).classes, size)


def bundled_student() -> bytes:
    """Return the bundled student, exported by `culling export`, which takes most of a minute and needs torch.

    Raises `MissingExtraError` if torch is not installed.
    """
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        out = Path(folder) / "student.onnx"
        command = [sys.executable, "-m", "culling.common.cli", "export", "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode == MissingExtraError.exit_code:
            raise MissingExtraError(
                "exporting the bundled student needs torch: name another with --model FILE.onnx, or install it with: "
                "pip install 'culling[cloud]'"
            )
        if done.returncode:
            raise CullingError(
                f"culling export failed: {(done.stderr.strip().splitlines() or ['it printed no error'])[-1]}"
            )
        return out.read_bytes()


def _pictures(video: Path) -> Iterator[av.VideoFrame]:
    return (frame.picture for frame in play(video) if frame.picture is not None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
