"""Training images: labelled JPEGs in memory, laid on canvases of a few fixed sizes with flips and scale jitter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from culling.cloud.annotations.lines import Label, merge_labels, read_labels
from culling.cloud.model.recipe.augment import Augment, clipped
from culling.cloud.model.recipe.paste import Paste
from culling.cloud.model.recipe.rivals import outdone
from culling.cloud.model.target import Target
from culling.common.errors import CameraError, InputError
from culling.common.frame import Detections
from culling.common.video import read_frames

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".ts"}
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes, scores and labels."""

Place = tuple[int, int, int, int, int, int]
"""Where a picture stands on a canvas, see `Target.placed`."""

MIN_SIDE = 3.0
"""A box narrower than this many canvas pixels is ignored: the finest anchors cannot meet it."""


@dataclass(frozen=True)
class Sample:
    """One labelled image: `jpeg` of `(height, width)`, its labels in pixels, and where it came from."""

    jpeg: bytes
    width: int
    height: int
    detections: Detections
    source: str

    def pixels(self, shrink: float = 1.0) -> Tensor:
        """Return the image as `(3, H, W)` uint8 RGB, H and W no smaller than `shrink` times the full size."""
        height, width = max(1, int(self.height * shrink)), max(1, int(self.width * shrink))
        array = simplejpeg.decode_jpeg(self.jpeg, "RGB", fastdct=True, min_height=height, min_width=width, min_factor=1)
        return torch.from_numpy(array).permute(2, 0, 1)


def load_samples(
    label_files: Sequence[Path],
    image_dirs: Sequence[Path],
    until: Callable[[str], float] = lambda name: 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sample]:
    """Return the labelled images named by `label_files`, looked up in `image_dirs`.

    A video source contributes its labelled frames below the fraction `until(name)` of its last labelled frame.
    A damaged frame of a video is left out, and that is logged. Raises `InputError` naming the label line whose
    image is missing, does not decode or has another size.
    """
    labels = merge_labels(label for file in label_files for label in read_labels(file))
    by_source: dict[str, list[Label]] = {}
    for label in labels:
        by_source.setdefault(label.source, []).append(label)
    samples: list[Sample] = []
    for done, (source, rows) in enumerate(by_source.items()):
        progress(done, len(by_source))
        path = _find(source, image_dirs, rows[0].at)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            last = max(row.frame for row in rows)
            if learnt := [row for row in rows if row.frame < until(path.stem) * (last + 1)]:
                samples += _from_video(path, learnt)
        else:
            samples += [_from_photograph(path, row) for row in rows]
    if not samples:
        raise InputError("no training images are left: every source was excluded")
    return samples


def _find(source: str, image_dirs: Sequence[Path], at: str) -> Path:
    for folder in image_dirs:
        if (path := folder / source).is_file():
            return path
    raise InputError(f"{at}: image {source} is in none of {', '.join(map(str, image_dirs))}")


def _from_photograph(path: Path, label: Label) -> Sample:
    try:
        jpeg = path.read_bytes()
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, min_factor=1)  # a header promises nothing
    except OSError as error:
        raise InputError(f"{label.at}: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{label.at}: {path} is not a JPEG that decodes") from None
    if (width, height) != (label.width, label.height):
        raise InputError(f"{label.at}: {path} is {width}x{height}, the label says {label.width}x{label.height}")
    return Sample(jpeg, width, height, label.detections, label.source)


def _from_video(path: Path, labels: list[Label]) -> list[Sample]:
    wanted = {label.frame: label for label in labels}
    try:
        frames = read_frames(path, list(wanted), lose=wanted.pop)
        samples = [_sample(image, wanted.pop(number), path) for number, image in frames]
    except CameraError as error:
        raise InputError(f"{labels[0].at}: {error}") from None
    if wanted:
        raise InputError(f"{next(iter(wanted.values())).at}: {path} has no frame {min(wanted)}")
    return samples


def _sample(image: NDArray[np.uint8], label: Label, path: Path) -> Sample:
    height, width = image.shape[:2]
    if (height, width) != (label.height, label.width):
        raise InputError(f"{label.at}: {path} is {width}x{height}, the label says {label.width}x{label.height}")
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=92)
    return Sample(jpeg, width, height, label.detections, label.source)


@dataclass(frozen=True)
class Batcher:
    """Makes the batch of any step from `(seed, step)` alone, so that a resumed run sees what an unbroken one would.

    `canvases` are the `(height, width)` a batch may have: few, since each new shape costs a compilation. Labels at
    or above `score_floor` are learnt, one on each place; those between `ignore_floor` and it are ignored, the rest is
    background.
    `mosaic` is the share of canvases tiled from four images instead of one. `fill` is the share of images scaled to
    cover their place, not to fit into it: less of a step is spent on grey. Nothing is background to the classes
    `spared` (indices from 0). `stretch` is how far an image's aspect may change, as the natural logarithm of the
    factor. `paste` and `augment` then change the canvas as they say.
    """

    samples: Sequence[Sample]
    batch: int
    canvases: Sequence[tuple[int, int]]
    jitter: tuple[float, float] = (0.7, 1.1)
    mosaic: float = 0.0
    score_floor: float = 0.4
    ignore_floor: float = 0.1
    seed: int = 0
    probabilities: NDArray[np.float64] | None = field(default=None)
    fill: float = 0.0
    stretch: float = 0.0
    paste: Paste | None = None
    augment: Augment | None = None
    spared: tuple[int, ...] = ()

    def __call__(self, step: int, rank: int = 0) -> tuple[Tensor, list[Target]]:
        """Return `(B, 3, H, W)` float images in [0, 1] and their targets for one step of one worker."""
        height, width = self.size(step)
        rng = np.random.default_rng((self.seed, step, rank + 1))
        pairs = [self._canvas(height, width, rng) for _ in range(self.batch)]
        return torch.stack([image for image, _ in pairs]), [target for _, target in pairs]

    def size(self, step: int) -> tuple[int, int]:
        """Return the `(height, width)` of the images of a step."""
        choice = np.random.default_rng((self.seed, step)).integers(len(self.canvases))
        return self.canvases[int(choice)]

    def _canvas(self, height: int, width: int, rng: np.random.Generator) -> tuple[Tensor, Target]:
        canvas = torch.full((3, height, width), 114, dtype=torch.uint8)
        cells = [(0, 0, height, width)]
        if rng.random() < self.mosaic:
            y, x = (int(side * rng.uniform(0.35, 0.65)) for side in (height, width))
            cells = [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)]
        placed = [self._place(canvas, cell, self._draw(rng), rng) for cell in cells]
        found = Detections(*(np.concatenate(part) for part in zip(*(parts for parts, _ in placed), strict=True)))
        if self.paste is not None:
            found = self.paste(canvas, found, rng)
        image = canvas.float() / 255
        if self.augment is not None:
            image, found = self.augment(image, found, rng)
        whole = len(cells) == 1 and self.paste is None and self.augment is None
        return image, self._target(found, [where for _, where in placed] if whole else [])

    def _target(self, found: Detections, placed: Sequence[Place]) -> Target:
        boxes, scores = found.boxes, found.scores
        small = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) < MIN_SIDE
        learnt = (scores >= self.score_floor) & ~small & ~outdone(found)
        doubtful = (scores >= self.ignore_floor) & ~learnt
        return Target(
            torch.from_numpy(boxes[learnt]),
            torch.from_numpy(found.labels[learnt] + 1),
            torch.from_numpy(scores[learnt]),
            torch.from_numpy(boxes[doubtful]),
            torch.from_numpy(found.labels[doubtful] + 1),
            torch.tensor([label + 1 for label in self.spared], dtype=torch.int64),
            torch.tensor(placed, dtype=torch.float32).view(-1, 6),
        )

    def _draw(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.samples), p=self.probabilities))

    def _place(
        self, canvas: Tensor, cell: tuple[int, int, int, int], number: int, rng: np.random.Generator
    ) -> tuple[Found, Place]:
        """Scale one image into a cell of the canvas at a random size and place; return its boxes there, and where."""
        sample = self.samples[number]
        top, left, bottom, right = cell
        room_h, room_w = bottom - top, right - left
        ratios = room_h / sample.height, room_w / sample.width
        scale = (max if self.fill and rng.random() < self.fill else min)(ratios) * rng.uniform(*self.jitter)
        tall = math.exp(rng.uniform(-self.stretch, self.stretch) / 2) if self.stretch else 1.0
        size_h, size_w = max(8, round(sample.height * scale * tall)), max(8, round(sample.width * scale / tall))
        image = tv.resize(sample.pixels(min(1.0, scale * max(tall, 1 / tall))), [size_h, size_w], antialias=True)
        if flip := rng.random() < 0.5:
            image = image.flip(2)
        dy, dx = _offset(size_h, room_h, rng), _offset(size_w, room_w, rng)
        y0, x0, y1, x1 = max(dy, 0), max(dx, 0), min(dy + size_h, room_h), min(dx + size_w, room_w)
        canvas[:, top + y0 : top + y1, left + x0 : left + x1] = image[:, y0 - dy : y1 - dy, x0 - dx : x1 - dx]
        found = sample.detections
        boxes = found.boxes * np.array([size_w / sample.width, size_h / sample.height] * 2, np.float32)
        if flip:
            boxes = np.stack([size_w - boxes[:, 2], boxes[:, 1], size_w - boxes[:, 0], boxes[:, 3]], 1)
        moved = boxes + np.array([left + dx, top + dy] * 2, np.float32)
        shown = (left + x0, top + y0, left + x1, top + y1)
        kept = clipped(Detections(moved, found.scores, found.labels), shown, self.ignore_floor)
        where = (number, left + dx, top + dy, size_w, size_h, int(flip))
        return (kept.boxes, kept.scores, kept.labels), where


def _offset(size: int, room: int, rng: np.random.Generator) -> int:
    low, high = sorted((0, room - size))
    return int(rng.integers(low, high + 1))
