"""What `[pace]` orders simulated cameras whose every frame is known, by the interval's ends and by the value alone.

    python tests/bench/pace.py            # from the root of a checkout; about a minute on one core

A camera's student is as right as its truth says, for ten days; of each hour two audits are labelled, and after every
twelve the newest 60 are measured, as the service does. Then it falls. Printed are the steps of the pace in the first
ten days and where they led, which should be 1 in between .8 and .9, and how many hours after the fall it was raised,
and at 1 or above. Looks for a fall, which the service takes once a day as well, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
from msgspec.structs import replace

from culling.cloud.control.steering.accuracy import AUDITS, MeasuredAccuracy
from culling.cloud.control.steering.pace import Fresh, decide
from culling.cloud.evaluation.accuracy import Estimate, Forwarded, measure
from culling.cloud.evaluation.matching import Compared
from culling.cloud.settings import PaceSettings
from culling.cloud.store.desired import Paced
from culling.common.frame import Detections

CAMERAS, DAYS, PER_HOUR, PROBABILITY, OBJECTS = 8, 10, 2, 2 / 118, 1.5
SETTINGS = PaceSettings(on=True)
SKILLS = {"right": 0.97, "at an end": 0.91, "in between": 0.86}
WRONG = 0.6
"""The chance of each object to be found, which is about the AP50."""

Rule = Callable[[Paced, MeasuredAccuracy, Fresh, float, PaceSettings], Paced | None]


def by_value(paced: Paced, found: MeasuredAccuracy, fresh: Fresh, now: float, settings: PaceSettings) -> Paced | None:
    """JITNet's rule: the value alone."""
    if found.now.ap50 is None:
        return None
    value = found.now.ap50.value
    return decide(paced, _with(found, Estimate(value, value, value)), fresh, now, settings)


def _with(found: MeasuredAccuracy, ap50: Estimate) -> MeasuredAccuracy:
    return replace(found, now=replace(found.now, ap50=ap50))


RULES: dict[str, Rule] = {"interval": decide, "value": by_value}


def frame(rng: np.random.Generator, skill: float) -> Compared:
    """Return a frame in which the student finds each object with the chance `skill`, and false alarms beside."""
    count, wrong = int(rng.poisson(OBJECTS)), int(rng.poisson(0.3 * OBJECTS * (1.0 - skill) + 0.02))
    hit = np.flatnonzero(rng.random(count) < skill)
    scores = np.concatenate([rng.beta(6, 2, len(hit)), rng.beta(2, 4, wrong)])
    return Compared(_boxes([*hit, *range(count, count + wrong)], scores), _boxes(range(count), np.ones(count)))


def _boxes(places: Sequence[int], scores: np.ndarray) -> Detections:  # type: ignore[type-arg]
    corners = np.array([(20 * place, 0, 20 * place + 10, 10) for place in places], np.float32).reshape(-1, 4)
    return Detections(corners, scores.astype(np.float32), np.zeros(len(corners), np.int64))


def truth(skill: float) -> float:
    """Return the AP50 of a student of that skill, over many frames."""
    rng = np.random.default_rng(0)
    found = measure([Forwarded(frame(rng, skill), 600.0 * i, PROBABILITY) for i in range(3000)], ("thing",))
    assert found is not None
    assert found.ap50 is not None
    return found.ap50.value


@dataclass
class Life:
    """The pace of one camera by one rule: (hour, times) of each step."""

    steps: list[tuple[float, float]]

    def at(self, hour: float) -> float:
        return next((times for when, times in reversed(self.steps) if when <= hour), 1.0)


def live(seed: int, before: float, after: float) -> dict[str, Life]:
    """Return what each rule makes of the same audits of a camera, which falls after `DAYS`."""
    rng, drawn = np.random.default_rng(seed), []
    paces, lives = {name: Paced() for name in RULES}, {name: Life([]) for name in RULES}
    for turn in range(2 * DAYS * 24 * PER_HOUR):
        hour = turn / PER_HOUR
        drawn.append(Forwarded(frame(rng, before if hour < 24 * DAYS else after), 3600.0 * hour, PROBABILITY))
        if (turn + 1) % SETTINGS.audits or (now := measure(drawn[-AUDITS:], ("thing",))) is None:
            continue
        for name, rule in RULES.items():
            found = rule(
                paces[name], MeasuredAccuracy("a", 0.0, now, None), Fresh(SETTINGS.audits, hour), hour, SETTINGS
            )
            if found is not None and found.times != paces[name].times:
                lives[name].steps.append((hour, found.times))
            paces[name] = found or paces[name]
    return lives


def told(name: str, rule: str, lives: Sequence[Life]) -> str:
    """Return a line about what one rule made of cameras that began alike."""
    fall = 24.0 * DAYS
    steps, ends = [sum(hour < fall for hour, _ in life.steps) for life in lives], [life.at(fall) for life in lives]
    after = [[(hour - fall, times) for hour, times in life.steps if hour >= fall] for life in lives]
    raised = [next((hour for hour, times in each if times > end), None) for each, end in zip(after, ends, strict=True)]
    back = [next((hour for hour, times in each if times >= 1.0), None) for each in after]
    return (
        f"{name:11} AP50 {truth(SKILLS[name]):.2f}  by {rule:8} {mean(steps):4.1f} steps to {median(ends):5.3f} "
        f"({min(ends):g} to {max(ends):g})  raised {_span(raised)}  at 1 {_span(back)}"
    )


def _span(hours: Sequence[float | None]) -> str:
    known = [hour for hour in hours if hour is not None]
    return f"after {median(known):.0f} h ({min(known):.0f} to {max(known):.0f})" if known else "never"


def main() -> None:
    """Print a line for each kind of camera and each rule."""
    print(f"{CAMERAS} cameras each; {DAYS} days, then as many at AP50 {truth(WRONG):.2f}")
    for name, skill in SKILLS.items():
        lives = [live(seed, skill, WRONG) for seed in range(CAMERAS)]
        for rule in RULES:
            print(told(name, rule, [life[rule] for life in lives]), flush=True)


if __name__ == "__main__":
    main()
