"""Changes of a training canvas beyond flip and scale: light, lens, and the tilt that makes a level view a steep one.

Each part is drawn for a share of the canvases, and costs milliseconds beside the second that a step takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from culling.common.frame import Detections

GREY = 114 / 255
"""What a canvas shows where it has no picture."""

SHOWN_TO_LEARN, SHOWN_TO_IGNORE = 0.35, 0.1
"""A box cut to less than a third is too little to learn from and too much to call background."""

DUSK = 0.3
"""The share of recoloured canvases that turn dark and blue."""

_OUTLINE = np.array([(-1, -0.4), (-1, 0.4), (1, -0.4), (1, 0.4), (-0.4, -1), (0.4, -1), (-0.4, 1), (0.4, 1)])


@dataclass(frozen=True)
class Augment:
    """The shares of canvases, in [0, 1], that get another light (`colour`), a worse lens (`noise`) and a `tilt`.

    A tilt pitches the picture by up to `pitch` degrees about its middle, rolls and turns it by up to a third of that.
    """

    colour: float = 0.0
    noise: float = 0.0
    tilt: float = 0.0
    pitch: float = 50.0

    def __call__(self, image: Tensor, found: Detections, rng: np.random.Generator) -> tuple[Tensor, Detections]:
        """Return `image`, `(3, H, W)` float in [0, 1], and its boxes in pixels, as `rng` has them changed."""
        if rng.random() < self.tilt:
            pitch, yaw, roll = rng.uniform(-1, 1, 3) * np.radians(self.pitch) * np.array([1, 1 / 3, 1 / 3])
            image, found = tilted(image, found, pitch, yaw, roll)
        if rng.random() < self.colour:
            image = recoloured(image, rng)
        if rng.random() < self.noise:
            image = worsened(image, rng)
        return image, found


def recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the picture in another light: gamma, contrast, saturation and white balance, at times dusk."""
    grey = image.mean(0, keepdim=True)
    image = grey + (image - grey) * rng.uniform(0.2, 1.5)
    mean = float(grey.mean())
    image = (mean + (image - mean) * rng.uniform(0.6, 1.3)) * _column(rng.uniform(0.85, 1.15, 3))
    image = image.clamp(1e-4, 1) ** math.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < DUSK:
        image = image * rng.uniform(0.25, 0.7) * _column([0.85, 0.95, 1.15])
    return image.clamp(0, 1)


def worsened(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the picture as a worse camera has it: blurred, noisy, or compressed."""
    kind = rng.integers(3)
    if kind == 0:
        size = image.shape[1:]
        small = F.interpolate(image[None], scale_factor=1 / rng.uniform(1.2, 2.5), mode="bilinear", antialias=True)
        return F.interpolate(small, size=size, mode="bilinear")[0].clamp(0, 1)
    if kind == 1:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.01, 0.08))
        return (image + torch.from_numpy(noise)).clamp(0, 1)
    array = np.ascontiguousarray((image * 255).byte().permute(1, 2, 0).numpy())
    jpeg = simplejpeg.encode_jpeg(array, quality=int(rng.integers(12, 50)))
    return torch.from_numpy(simplejpeg.decode_jpeg(jpeg, "RGB")).permute(2, 0, 1).float() / 255


def tilted(image: Tensor, found: Detections, pitch: float, yaw: float, roll: float) -> tuple[Tensor, Detections]:
    """Return the picture turned about its middle, angles in radians, as a pinhole at 1.2 long sides sees it.

    A box becomes the one around its outline, an octagon, since the corners of a box seldom belong to its object.
    """
    height, width = image.shape[1:]
    matrix = _homography(height, width, pitch, yaw, roll)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) + 0.5
    sources = _project(np.asarray(np.linalg.inv(matrix), np.float64), np.stack([x, y], -1).reshape(-1, 2))
    grid = torch.from_numpy((sources / (width / 2, height / 2) - 1).astype(np.float32)).view(1, height, width, 2)
    turned = F.grid_sample(image[None] - GREY, grid, mode="bilinear", align_corners=False)[0] + GREY
    middle, half = (found.boxes[:, 2:] + found.boxes[:, :2]) / 2, (found.boxes[:, 2:] - found.boxes[:, :2]) / 2
    outlines = middle[:, None].astype(np.float64) + half[:, None].astype(np.float64) * _OUTLINE
    points = _project(matrix, outlines.reshape(-1, 2)).reshape(-1, len(_OUTLINE), 2)
    boxes = np.concatenate([points.min(1), points.max(1)], 1).astype(np.float32).reshape(-1, 4)
    return turned, clipped(Detections(boxes, found.scores, found.labels), (0, 0, width, height))


def clipped(found: Detections, room: tuple[float, float, float, float], doubtful: float = 0.1) -> Detections:
    """Return the boxes cut to `room`, xyxy; one that is mostly cut away scores `doubtful` at most, a sliver is gone."""
    low, high = np.array([room[:2] * 2, room[2:] * 2], np.float32)
    boxes = np.clip(found.boxes, low, high)
    shown = area(boxes) / np.maximum(area(found.boxes), 1e-6)
    scores = np.where(shown >= SHOWN_TO_LEARN, found.scores, np.minimum(found.scores, doubtful)).astype(np.float32)
    return Detections(boxes, scores, found.labels).where(shown >= SHOWN_TO_IGNORE)


def area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas `(N,)` of boxes `(N, 4)`."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _column(values: list[float] | NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def _homography(height: int, width: int, pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """Return the matrix `(3, 3)` that takes a pixel of the picture to where the pinhole sees it once it is turned."""
    (sp, sy, sr), (cp, cy, cr) = np.sin([pitch, yaw, roll]), np.cos([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    far = 1.2 * max(height, width)
    plane = (about_z @ about_y @ about_x)[:, :2]
    seen = np.column_stack([plane, [0, 0, far]])
    lens = np.array([[far, 0, width / 2], [0, far, height / 2], [0, 0, 1]])
    return np.asarray(lens @ seen @ np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]]))


def _project(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])
