"""Who passes, and when: the rates of a day's hours, its rush, its event, its crowds, and the hours of what is rare.

What comes in a slot of the day follows from the seed and the slot's number alone: a frame asks for the slots that may
still be on the scene. A slot replays a stretch of the clip, thinned or thickened: what comes keeps the distances that
objects there keep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from culling.cloud.study.day.cast import Actor
from culling.common.clock import DAY_S

SLOT_S = 15.0
"""Seconds that come out of one stretch of the clip."""

RATES = (
    *((0.0, 0.06), (4.5, 0.04), (6.0, 0.3), (7.5, 1.5), (8.5, 1.5), (10.0, 0.9), (12.0, 1.1), (13.5, 1.1), (15.5, 0.9)),
    *((17.0, 1.5), (18.3, 1.5), (20.0, 0.6), (22.0, 0.3), (24.0, 0.06)),
)
"""Hour, and how much passes then, of what passes in the clip."""

EVENT_RATE = 2.2
"""By this much an event multiplies the rate."""

CROWD = 0.02
"""Of those who walk, so many come with company: up to `MOST_TOGETHER` close behind each other."""

MOST_TOGETHER = 6

RARE = 0.06
"""A class with a smaller share of the clip's objects is rare: it has hours of its own."""

RARE_HOURS = (6.0, 0.4)
"""How much more of a rare class comes in its hours, and how much less in all others."""


@dataclass(frozen=True)
class Event:
    """A spell of the day, in hours."""

    start: float
    end: float

    def __contains__(self, hour: float) -> bool:
        return self.start <= hour < self.end


@dataclass(frozen=True)
class Passing:
    """One object on its way: the actor whose course it takes and the one whose look it has, by index; when it came, in
    seconds since the first midnight; its pace; whether it goes the other way, mirrored; and `paint`, which turns hue
    (radians) and multiplies brightness. `aside` is how far beside the course it keeps, in widths.
    """

    course: int
    look: int
    came: float
    pace: float = 1.0
    mirrored: bool = False
    paint: tuple[float, float] = (0.0, 1.0)
    aside: float = 0.0


class Hours:
    """What passes through all days of a seed, of the `actors` of a clip of `seconds`."""

    def __init__(self, actors: Sequence[Actor], seconds: float, seed: int, upright: Sequence[int]) -> None:
        self._actors = actors
        self._seconds = seconds
        self._seed = seed
        self._slot = min(SLOT_S, seconds)
        self._upright = frozenset(upright)
        self._longest = max(actor.course.seconds for actor in actors) * 1.2 + 8
        shares = Counter(actor.label for actor in actors)
        self._rare = {label for label, count in shares.items() if count < RARE * len(actors)}
        self._like = [self._alike(place) for place in range(len(actors))]
        self._came = lru_cache(maxsize=1024)(self._comes)

    def rate(self, time: float) -> float:
        """Return how much passes at `time` (seconds since the first midnight), 1.0 being as much as in the clip."""
        hour = time / 3600 % 24
        usual = float(np.interp(hour, [at for at, _ in RATES], [rate for _, rate in RATES]))
        return usual * (EVENT_RATE if hour in self.event(int(time // DAY_S)) else 1.0)

    def event(self, day: int) -> Event:
        """Return when much more passes on that day than usual."""
        draw = np.random.default_rng([self._seed, day, 1])
        start = float(draw.uniform(9.5, 21.0))
        return Event(start, start + float(draw.uniform(0.4, 0.9)))

    def share(self, label: int, time: float) -> float:
        """Return how much of a class comes at `time`, as a multiple of the rate: 1.0 for what is not rare."""
        if label not in self._rare:
            return 1.0
        draw = np.random.default_rng([self._seed, int(time // DAY_S), 2, label])
        busy = draw.choice(np.arange(6, 22), 2, replace=False)
        return RARE_HOURS[0] if int(time / 3600 % 24) in busy else RARE_HOURS[1]

    def on_scene(self, time: float) -> list[Passing]:
        """Return what is on its way at `time`, in the order in which it came."""
        first, last = int((time - self._longest) // self._slot), int(time // self._slot)
        coming = (one for slot in range(max(0, first), last + 1) for one in self._came(slot))
        return [one for one in coming if 0 <= (time - one.came) * one.pace <= self._actors[one.course].course.seconds]

    def _comes(self, slot: int) -> tuple[Passing, ...]:
        draw = np.random.default_rng([self._seed, 3, slot])
        start = slot * self._slot
        rate = self.rate(start)
        kept = [min(1.0, rate - more) for more in range(int(np.ceil(rate)))]
        stretches = [(float(draw.uniform(0, self._seconds)), share) for share in kept]
        return tuple(one for begin, share in stretches for one in self._stretch(draw, start, begin, share))

    def _stretch(self, draw: np.random.Generator, start: float, begin: float, kept: float) -> Iterator[Passing]:
        for place, actor in enumerate(self._actors):
            after = (actor.came - begin) % self._seconds
            lot = draw.uniform()
            if after >= self._slot:
                continue
            for _ in range(int(kept * self.share(actor.label, start) + lot)):
                yield self._passing(draw, place, start + after)
                if actor.label in self._upright and draw.uniform() < CROWD:
                    for _ in range(int(draw.integers(2, MOST_TOGETHER))):
                        yield self._passing(draw, place, start + after + float(draw.uniform(0.5, 7)), beside=0.7)

    def _passing(self, draw: np.random.Generator, place: int, came: float, beside: float = 0.08) -> Passing:
        actor, walks = self._actors[place], self._actors[place].label in self._upright
        other = int(draw.choice(self._like[place])) if draw.uniform() < 0.5 else place
        across = abs(actor.course.heading[0]) > 2.5 * abs(actor.course.heading[1])
        turned = walks and other == place and bool(across) and draw.uniform() < 0.4
        hue = float(draw.uniform(-0.35, 0.35) if walks else draw.uniform(-0.45, 0.45))
        paint = hue * float(draw.uniform() < 0.5), float(draw.uniform(0.85, 1.12))
        pace = float(draw.uniform(0.88, 1.15))
        return Passing(place, other, came, pace, turned, paint, float(draw.normal(0, 1)) * beside)

    def _alike(self, place: int) -> list[int]:
        """Return whose looks fit a course: of its class, going the same way, seen about as large."""
        own = self._actors[place]
        return [other for other, actor in enumerate(self._actors) if other == place or _fits(own, actor)]


def _fits(own: Actor, other: Actor) -> bool:
    if own.label != other.label:
        return False
    one, two = own.course.heading, other.course.heading
    lengths = float(np.hypot(*one) * np.hypot(*two))
    high = float(own.course.places[:, 2].mean() / other.course.places[:, 2].mean())
    return lengths > 100 and float(one @ two) > 0.85 * lengths and 0.7 < high < 1.3
