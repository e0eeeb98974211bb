"""Rain and fog in front of a camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from culling.cloud.study.day.light import Light
from culling.cloud.study.day.plate import Picture

DROPS = 0.0012
"""Share of the pixels at which a streak begins when it rains hardest."""

SHEETS = 4

BRIGHT = 55.0
"""Grey levels that a streak adds by day."""


class Rain:
    """Sheets of streaks for pictures of a size, of which each frame shows one, moved about."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        draw = np.random.default_rng([seed, 31])
        self._size = size
        self._sheets = [self._sheet(draw) for _ in range(SHEETS)]

    def fall(self, picture: Picture, hard: float, daylight: float, draw: np.random.Generator) -> Picture:
        """Return a picture behind rain, 0 to 1 `hard`."""
        sheet = self._sheets[int(draw.integers(SHEETS))]
        down, right = int(draw.integers(self._size[0] // 2)), int(draw.integers(self._size[1] // 2))
        part = sheet[down : down + self._size[0], right : right + self._size[1]]
        strength = BRIGHT * (0.35 + 0.65 * daylight) * hard
        return np.asarray((picture + (part * np.float32(strength))[..., None]).clip(0, 255), np.uint8)

    def _sheet(self, draw: np.random.Generator) -> Light:
        height, width = self._size[0] * 3 // 2, self._size[1] * 3 // 2
        begins = np.where(draw.uniform(size=(height, width)) < DROPS, draw.uniform(0.3, 1, (height, width)), 0.0)
        slant, length = float(draw.uniform(-0.25, 0.25)), max(5, self._size[0] // 22)
        streaks = np.zeros_like(begins)
        for step in range(length):
            streaks = np.maximum(streaks, np.roll(begins, (step, round(slant * step)), (0, 1)))
        grey = Image.fromarray(np.asarray(255 * streaks, np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
        return np.asarray(np.asarray(grey) / 255, np.float32)


def fogged(light: Light, fog: float, depth: NDArray[np.float32], shine: Light) -> Light:
    """Return a scene behind fog: `depth` `(H,)` is how far each row is, 1 at the lower border; `shine` `(3,)` is what
    the fog itself gives back.
    """
    through = np.exp(-np.float32(0.3 * fog) * depth)[:, None, None]
    return np.asarray(light * through + shine * (1 - through), np.float32)


def distance(height: int, grounds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return how far each row of the picture is, by how high things are there: 1 at the lower border, at most 9."""
    rows = np.arange(height)
    low, high = np.percentile(grounds[:, 1], (10, 90))
    if high - low < 0.1 * height:
        return np.asarray(np.interp(rows, (0, height), (3, 1)), np.float32)
    slope, foot = np.polyfit(grounds[:, 1], grounds[:, 2], 1)
    seen = np.maximum(slope * rows + foot, 0.02 * height)
    return np.asarray((seen[-1] / seen).clip(1, 9), np.float32)
