"""The light and the weather of a second of a day, from the seed and the second alone: no state, no order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from culling.cloud.study.day.hours import Event
from culling.common.clock import DAY_S

NIGHT_DEGREES, DAY_DEGREES = -5.0, 9.0
"""Heights of the sun between which day becomes night."""

LAMPS_BELOW = 0.45
"""Lamps are lit where there is less daylight than this."""

STEP_S = 600.0
"""A camera may change its exposure so often."""

STEPS = 0.3
"""In this share of those spells it is off by a step."""


@dataclass(frozen=True)
class Sky:
    """What a second of the day looks like.

    `daylight` is 0 by night and 1 by day, `colour` the light's, `(r, g, b)` of white's; `sun` 0 to 1 is how sharply
    shadows fall, `sun_at` from which side, -1 (left) to 1; `rain`, `fog` and `lamps` are 0 to 1; `gain` multiplies the
    exposure; `knock` is by how much of the picture's width and height the camera has moved.
    """

    daylight: float
    colour: tuple[float, float, float]
    sun: float
    sun_at: float
    rain: float
    fog: float
    lamps: float
    gain: float
    knock: tuple[float, float]


class Weather:
    """The skies of all days of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def at(self, time: float) -> Sky:
        """Return the sky at `time`, in seconds since the first midnight."""
        day, hour = int(time // DAY_S), time / 3600 % 24
        rise, fall = self._sun_hours()
        height = sun_height(hour, rise, fall)
        daylight = _smooth((height - NIGHT_DEGREES) / (DAY_DEGREES - NIGHT_DEGREES))
        clouds = self._clouds(time)
        rain = self.rain(day, hour)
        sun = daylight * _smooth((0.55 - clouds) / 0.35) * (1 - min(1.0, 3 * rain)) * _smooth(height / 8)
        noon = (rise + fall) / 2
        return Sky(
            daylight=daylight,
            colour=_colour(height, clouds),
            sun=sun,
            sun_at=float(np.clip((hour - noon) / (fall - noon), -1, 1)),
            rain=rain,
            fog=max(self._fog(day, hour), 0.12 * rain),
            lamps=_smooth((LAMPS_BELOW - daylight) / 0.2),
            gain=self._gain(time) * (1 - 0.12 * clouds * daylight),
            knock=self._knock(day, hour),
        )

    def clear(self, time: float) -> bool:
        """Return whether it is full day, dry and clear, and the camera as it was."""
        sky = self.at(time)
        return sky.daylight > 0.97 and max(sky.rain, sky.fog) < 0.02 and sky.knock == (0.0, 0.0)

    def rain(self, day: int, hour: float) -> float:
        """Return how hard it rains, 0 to 1: one to three spells a day, the last of which may go on after midnight."""
        return max(self._rain_of(day, hour), self._rain_of(day - 1, hour + 24) if day else 0.0)

    def _rain_of(self, day: int, hour: float) -> float:
        draw = np.random.default_rng([self._seed, day, 11])
        hardest = 0.0
        for _ in range(int(draw.integers(1, 4))):
            start, length, most = draw.uniform(0, 23), draw.uniform(0.4, 1.8), draw.uniform(0.35, 1.0)
            within = (hour - start) / length
            if 0 < within < 1:
                hardest = max(hardest, float(most * min(1.0, 6 * within, 6 * (1 - within))))
        return hardest

    def _sun_hours(self) -> tuple[float, float]:
        draw = np.random.default_rng([self._seed, 12])
        half = float(draw.uniform(5.0, 7.2))
        return 12.6 - half, 12.6 + half

    def _clouds(self, time: float) -> float:
        slot = int(time // 1800)
        one, two = (np.random.default_rng([self._seed, 13, slot + more]).beta(1.2, 1.2) for more in (0, 1))
        share = _smooth(time / 1800 - slot)
        return float(one + (two - one) * share)

    def _fog(self, day: int, hour: float) -> float:
        draw = np.random.default_rng([self._seed, day, 14])
        foggy, start, end = draw.uniform() < 0.6, draw.uniform(3.5, 6), draw.uniform(8, 10)
        most = draw.uniform(0.4, 0.9)
        return float(most * min(_smooth(hour - start), _smooth(end - hour))) if foggy else 0.0

    def _gain(self, time: float) -> float:
        draw = np.random.default_rng([self._seed, 15, int(time // STEP_S)])
        stepped, step = draw.uniform() < STEPS, draw.normal(0, 0.2)
        return float(2.0 ** np.clip(step, -0.4, 0.4)) if stepped else 1.0

    def _knock(self, day: int, hour: float) -> tuple[float, float]:
        draw = np.random.default_rng([self._seed, day, 16])
        start = draw.uniform(1, 21)
        spell = Event(start, start + draw.uniform(0.4, 1.6))
        moved = draw.uniform(0.006, 0.02, 2) * draw.choice([-1, 1], 2)
        return (float(moved[0]), float(moved[1])) if hour in spell else (0.0, 0.0)


def sun_height(hour: float, rise: float, fall: float) -> float:
    """Return about how high the sun stands, in degrees, below 0 by night."""
    noon, half = (rise + fall) / 2, (fall - rise) / 2
    off = abs((hour - noon + 12) % 24 - 12)
    return float(50 * np.cos(np.pi / 2 * off / half)) if off < half else -float(45 * min(1.0, (off - half) / 3))


def _colour(height: float, clouds: float) -> tuple[float, float, float]:
    low = float(np.exp(-(((height - 3) / 7) ** 2))) * (1 - 0.8 * clouds)
    blue = float(np.exp(-(((height + 6) / 5) ** 2)))
    return 1 + 0.14 * low - 0.12 * blue, 1 - 0.02 * low - 0.03 * blue, 1 - 0.22 * low + 0.2 * blue + 0.03 * clouds


def _smooth(share: float) -> float:
    held = float(np.clip(share, 0, 1))
    return held * held * (3 - 2 * held)
