"""Light on a picture: between grey levels and linear light, lamps over the ways, headlights, and the camera's noise.

As in `basis/dusk.py`, light is added where it is linear, with a display gamma of 2.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from culling.cloud.study.day.plate import Picture
from culling.cloud.study.day.sky import Sky

Light = NDArray[np.float32]

GAMMA = 2.2

NIGHT_LEVEL = 0.05
"""What the camera shows of full daylight's linear level where no lamp reaches, by night, its gain included."""

LAMP_LEVEL = 0.5
"""The same right under a lamp."""

LAMP_COLOUR = (1.0, 0.8, 0.52)
NIGHT_COLOUR = (0.78, 0.9, 1.2)

NIGHT_NOISE = 2.0
"""By night a pixel's noise is so many times that of the clip."""

GREY_NIGHT = 0.55
"""This much of their colour things lose by night."""

FIELDS = 6
"""Fields of noise, of which each frame takes one, moved about."""

LEVELS = 4096
"""Steps of linear light's root: fine enough for the darkest grey level."""

_TO_LINEAR = np.asarray((np.arange(256) / 255.0) ** GAMMA, np.float32)
_TO_GREY = np.asarray(np.rint(255 * (np.arange(LEVELS) / (LEVELS - 1)) ** (2 / GAMMA)), np.uint8)


def to_linear(picture: Picture) -> Light:
    """Return linear light, 1.0 being white, of grey levels."""
    return _TO_LINEAR[picture]


def to_grey(light: Light) -> Picture:
    """Return the grey levels of linear light, which is cut at white."""
    root = np.sqrt(light.clip(0, 1))
    root *= LEVELS - 1
    return np.asarray(_TO_GREY[root.astype(np.uint16)], np.uint8)


def lamp_map(size: tuple[int, int], grounds: NDArray[np.float64], seed: int) -> Light:
    """Return how much lamp light falls where, `(H, W)` up to about 1: pools on the ways.

    `grounds` `(N, 3)` are places where things pass, x and y in pixels, and how high a thing is there.
    """
    draw, made = np.random.default_rng([seed, 21]), np.zeros(size, np.float32)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    left = grounds
    while len(left):
        x, y, high = left[int(draw.integers(len(left)))]
        reach = 2.3 * float(high) + 0.05 * size[1]
        away = ((columns - x) / reach) ** 2 + ((rows - y) / (0.55 * reach)) ** 2
        made += float(draw.uniform(0.6, 1.0)) * (0.5 * np.exp(-1.6 * away) + 0.5 / (1 + 3 * away) ** 1.5)
        left = left[np.hypot(left[:, 0] - x, (left[:, 1] - y) / 0.55) > 2.1 * reach]
    return np.asarray(made / (1 + 0.35 * made), np.float32)


def lit(light: Light, sky: Sky, lamps: Light) -> Light:
    """Return a scene in the light of `sky`; `lamps` `(H, W)` are all that burns, headlights too."""
    day = np.asarray(sky.colour, np.float32) * np.float32(sky.daylight)
    if sky.daylight < 1:
        day = day + np.asarray(NIGHT_COLOUR, np.float32) * np.float32(NIGHT_LEVEL * (1 - sky.daylight))
    if sky.daylight >= 1 and not lamps.any():
        return light * (day * np.float32(sky.gain))
    lost = np.float32(GREY_NIGHT * (1 - sky.daylight))
    grey = light @ np.array([0.3, 0.59, 0.11], np.float32)
    burning = np.asarray(LAMP_COLOUR, np.float32) * np.float32(LAMP_LEVEL)
    seen = light + lost * (grey[..., None] - light)
    return np.asarray(seen * ((day + lamps[..., None] * burning) * np.float32(sky.gain)), np.float32)


def glow(light: Light, at: tuple[float, float], size: float, colour: NDArray[np.float64]) -> None:
    """Add a lamp that shines into the camera to `light`, in place: a disc and its halo."""
    part, top, left = _around(light, at, int(4 * size) + 2)
    if part.size:
        rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        away = ((rows - at[1]) ** 2 + (columns - at[0]) ** 2) / size**2
        shape = np.exp(-2 * away) + 0.12 * np.exp(-away / 3.5)
        part += np.asarray(shape[..., None] * colour, np.float32)


def beam(lamps: Light, at: tuple[float, float], size: float) -> None:
    """Add what headlights throw on the ground around `at` to a map of lamps, in place."""
    part, top, left = _around(lamps, at, int(2.5 * size) + 2)
    if part.size:
        rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        away = ((rows - at[1]) / 0.6) ** 2 + (columns - at[0]) ** 2
        part += np.asarray(0.7 * np.exp(-1.5 * away / size**2), np.float32)


def _around(light: Light, at: tuple[float, float], reach: int) -> tuple[Light, int, int]:
    """Return the part of `light` within `reach` pixels of a place, empty where there is none, and its top and left."""
    x, y = int(at[0]), int(at[1])
    top, left = max(0, y - reach), max(0, x - reach)
    return light[top : max(0, y + reach + 1), left : max(0, x + reach + 1)], top, left


class Noise:
    """Fields of a sensor's noise for pictures of a size: a bit coarser than a pixel, as codecs leave it."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        draw = np.random.default_rng([seed, 22])
        self._size = size
        self._fields = [self._field(draw) for _ in range(FIELDS)]

    def add(self, picture: Picture, deviation: float, draw: np.random.Generator) -> Picture:
        """Return a picture with noise of a deviation in grey levels, taken as `draw` says."""
        field = self._fields[int(draw.integers(FIELDS))]
        down, right = int(draw.integers(self._size[0] // 2)), int(draw.integers(self._size[1] // 2))
        part = field[down : down + self._size[0], right : right + self._size[1]]
        scaled = np.rint(part * np.float32(deviation)).astype(np.int16)  # cut towards 0, weak noise would lose a third
        scaled += picture
        return np.asarray(scaled.clip(0, 255), np.uint8)

    def _field(self, draw: np.random.Generator) -> Light:
        size = self._size[0] * 3 // 2, self._size[1] * 3 // 2
        grey = self._coarse(draw, size, 0.6)
        tint = np.stack([self._coarse(draw, size, 1.2) for _ in range(3)], -1)
        return np.asarray(0.9 * grey[..., None] + 0.4 * tint, np.float32)

    @staticmethod
    def _coarse(draw: np.random.Generator, size: tuple[int, int], radius: float) -> Light:
        white = draw.normal(0, 1, size).astype(np.float32)
        grey = Image.fromarray(np.asarray((128 + 32 * white).clip(0, 255), np.uint8))
        soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32) - 128
        return np.asarray(soft / soft.std(), np.float32)
