"""A camera's course through day, night, and day again: rounds in order, the light of each, and when its frames come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from culling.cloud.study.basis.lights import LightName
from culling.common.clock import DAY_S

SPAN_S = 4 * 3600.0
"""What a phase takes: its frames are that far apart, so that held-out blocks and guards are those of a real camera."""

DAY_ZERO = 20_000 * DAY_S


@dataclass(frozen=True)
class Phases:
    """So many `rounds` in each phase, numbered from 1 on.

    `phases` are the lights in order, and when each begins, in hours: every phase has hours of its own, by which the
    gate judges.
    """

    rounds: int
    phases: tuple[tuple[LightName, float], ...] = (("day", 10.0), ("night", 20.0), ("day", 34.0))

    @cached_property
    def total(self) -> int:
        """How many rounds there are."""
        return self.rounds * len(self.phases)

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, self.total + 1))

    def place(self, number: int) -> tuple[LightName, int, int]:
        """Return the light of a round, which of that light's rounds it is, from 0 on, and how many it has."""
        order = [light for light, _ in self.phases for _ in range(self.rounds)]
        light = order[number - 1]
        return light, order[: number - 1].count(light), order.count(light)

    def times(self, number: int, count: int) -> list[float]:
        """Return when the frames of a round are captured, in epoch seconds."""
        phase, place = divmod(number - 1, self.rounds)
        begin = DAY_ZERO + self.phases[phase][1] * 3600.0 + place * SPAN_S / self.rounds
        return [begin + at * SPAN_S / self.rounds / count for at in range(count)]


def shade_nights(axes: Any, course: Phases) -> None:
    """Shade the nights of a plot over round numbers."""
    for phase, (light, _) in enumerate(course.phases):
        if light == "night":
            axes.axvspan(phase * course.rounds + 0.5, (phase + 1) * course.rounds + 0.5, color="grey", alpha=0.2)
