"""A cast of hand-made blocks, of which every pixel is known, and weather that does as it is told."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from culling.cloud.study.day.cast import Actor, Cast, Course
from culling.cloud.study.day.compose import Composer
from culling.cloud.study.day.cut import RIM, Cut
from culling.cloud.study.day.plate import Picture
from culling.cloud.study.day.sky import Sky, Weather
from culling.cloud.weights.classes import CLASSES

WIDTH, HEIGHT = 64, 48
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")
SIZES = {CAR: (12, 16), PERSON: (16, 10)}
"""Height and width of each kind of block."""

FEET = {CAR: 40.0, PERSON: 20.0}
"""The row on which each kind passes."""

PLAIN = Sky(1.0, (1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, (0.0, 0.0))
"""Full day without sun, weather or a step of exposure: what is composed is shown as it is."""


class SteadyWeather(Weather):
    """The same sky at all times."""

    def __init__(self, sky: Sky) -> None:
        super().__init__(0)
        self._sky = sky

    def at(self, time: float) -> Sky:
        return self._sky


def small_cast(unrest: float = 0.0) -> Cast:
    """Return a place of 64 x 48 pixels that red cars cross below, and blue people above; nothing stands there."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    plate = np.stack([90 + columns % 7, 100 + rows % 5, 95 + (rows + columns) % 3], -1).astype(np.uint8)
    actors = tuple(
        _crossing(label, came, colour)
        for label, colour in ((CAR, (190, 40, 40)), (PERSON, (30, 60, 200)))
        for came in (0.5, 4.5, 8.5, 12.5)
    )
    return Cast(plate, (), actors, 16.0, unrest, CLASSES)


def under(composer: Composer, sky: Sky = PLAIN, **changed: Any) -> Composer:
    """Return the same composer under a sky, of which something may be `changed`, at all times."""
    made = copy(composer)
    made.weather = SteadyWeather(replace(sky, **changed))
    return made


def _crossing(label: int, came: float, colour: tuple[int, int, int]) -> Actor:
    height, width = SIZES[label]
    x = np.linspace(-width / 2, WIDTH + width / 2, 5)
    places = np.stack([x, np.full(5, FEET[label]), np.full(5, height), np.full(5, width)], 1).astype(np.float64)
    return Actor(label, came, Course(np.linspace(0, 8, 5), places), (_block(colour, height, width, FEET[label]),))


def _block(colour: tuple[int, int, int], height: int, width: int, foot: float) -> Cut:
    picture = np.empty((height + 2 * RIM, width + 2 * RIM, 3), np.uint8)
    picture[:] = colour
    mask: Picture = np.zeros(picture.shape[:2], np.uint8)
    mask[RIM:-RIM, RIM:-RIM] = 255
    return Cut(picture, mask, (WIDTH / 2, foot), (-width / 2 - RIM, -height - RIM), height, width, 0.0)
