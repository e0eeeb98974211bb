"""Drift on simulated cameras: how often a student that stays as it is counts as fallen, and which falls are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from culling.cloud.archive.day import hour_of
from culling.cloud.evaluation.drift import LEAST, LOOK_S, Audit, Sides, Watched, difference, watch
from support.judged import seen

START = 1_800_057_600.0  # midnight
HOUR, DAY = 3600.0, 86_400.0
RECALLS = (0.1, 0.3, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
POOL = {
    recall: [seen(np.random.default_rng([index, place]), [1 + index % 6], recall) for index in range(300)]
    for place, recall in enumerate(RECALLS)
}
"""Frames by how many of their objects the student finds."""

Skill = Callable[[float], float]


def audits(seed: int, days: float, skill: Skill, first: float = START, an_hour: int = 2) -> list[Audit]:
    """Audits of a camera: a few in each hour, which are likelier where little happens; half-hours differ."""
    rng = np.random.default_rng(seed)
    found = []
    for hour in range(int(24 * days)):
        for at in np.sort(rng.random(an_hour)) * HOUR + first + hour * HOUR:
            place = np.searchsorted(RECALLS, skill(at)) + rng.choice([-1, 0, 1], p=[0.25, 0.5, 0.25])
            frames = POOL[RECALLS[int(np.clip(place, 0, len(RECALLS) - 1))]]
            found.append(Audit(float(at), float(rng.choice([0.01, 0.02])), frames[rng.integers(len(frames))]))
    return found


def is_night(at: float) -> bool:
    return hour_of(at) < 6


def steady(at: float) -> float:
    return 0.55 if is_night(at) else 0.85


def looks(frames: Sequence[Audit], other: Sequence[Audit] = ()) -> list[Watched]:
    """Every look of a student's life, one a day."""
    found: list[Watched] = []
    for end in np.arange(frames[0].at, frames[-1].at + DAY, DAY):
        told = watch([audit for audit in frames if audit.at <= end], other, found[-1] if found else None)
        assert told is not None
        found.append(told)
    return found


def days_of_falls(found: Sequence[Watched]) -> dict[str, int]:
    """The look at which each part of the day fell first."""
    days: dict[str, int] = {}
    for day, look in enumerate(found):
        for fall in look.falls:
            days.setdefault(fall.part, day)
    return days


def test_a_student_that_stays_as_it_is_falls_by_chance_in_one_life_of_twenty_at_most() -> None:
    fallen = sum(any(look.falls for look in looks(audits(seed, 30, steady))) for seed in range(100, 104))
    assert fallen == 0, "of 53 lives, seeds 100 to 152, two fall"


def test_a_difference_by_chance_is_as_unlikely_as_it_says() -> None:
    """One look, of one test: of the newest 60 against 60, in streams that are all alike."""
    lower, higher = [], []
    for seed in range(100):
        mine = audits(seed, 2.5, steady)
        _, fell, rose = difference(Sides(mine[60:], mine[:60], by_other=False))
        lower.append(fell)
        higher.append(rose)
    for level in (0.05, 0.2):
        for chances in (lower, higher):
            assert np.mean(np.array(chances) <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / 100)


@pytest.mark.parametrize("seed", range(2))
def test_a_student_that_became_worse_by_night_alone_is_found_within_days(seed: int) -> None:
    fell = START + 9 * DAY
    found = looks(audits(seed, 14, lambda at: 0.1 if is_night(at) and at >= fell else steady(at)))
    days = days_of_falls(found)
    [night] = [part for part in days if part]
    assert night.startswith("00-")
    assert 9 < days[night] <= 14
    [fall] = [fall for fall in found[days[night]].falls if fall.part]
    assert fall.told().startswith(f"worse at {night} UTC: 0.")
    assert fall.now.low < fall.now.value < fall.now.high < fall.before
    assert not fall.by_other


def test_a_scene_that_became_easier_starts_no_round_and_hides_no_later_fall() -> None:
    easier, worse = START + 6 * DAY, START + 12 * DAY
    found = looks(audits(1, 14, lambda at: 0.3 if at < easier else 0.95 if at < worse else 0.55))
    days = days_of_falls(found)
    assert min(days.values()) > 12
    assert "" in days
    assert found[11].since[-1] > START
    stale = watch(audits(1, 20, lambda at: 0.3 if at < easier else 0.55)[len(found) :], (), None)
    assert stale is not None
    assert not stale.falls, "held against its first days it would look better than it was"


def test_the_first_nights_of_a_student_are_held_against_those_of_the_one_before() -> None:
    other = audits(1, 5, steady, first=START - 5 * DAY)
    found = looks(audits(2, 4, lambda at: 0.1 if is_night(at) else steady(at)), other)
    days = days_of_falls(found)
    assert all(part.startswith("00-") for part in days)
    [told] = {fall.told() for fall in found[min(days.values())].falls}
    assert told.endswith("with the student before")
    assert not days_of_falls(looks(audits(2, 4, steady), other))
    assert not days_of_falls(looks(audits(2, 4, lambda at: 0.1 if is_night(at) else steady(at)))), "nothing to compare"


def test_it_is_looked_at_once_a_day() -> None:
    mine = audits(3, 4, steady)
    first = watch(mine[:96], (), None)
    assert first is not None
    assert watch(mine[:140], (), first) is first
    assert watch([], (), first) is first
    later = watch(mine, (), first)
    assert later is not None
    assert later.at >= first.at + LOOK_S


def test_few_audits_say_nothing() -> None:
    right, wrong = (audits(4, 1, lambda at, skill=skill: skill) for skill in (0.95, 0.1))
    few = watch([*right[: LEAST - 1], *[replace(one, at=one.at + DAY) for one in wrong[: LEAST - 1]]], (), None)
    assert few is not None
    assert few.falls == ()
    enough = watch([*right, *[replace(one, at=one.at + DAY) for one in wrong]], (), None)
    assert enough is not None
    assert enough.falls[0].size > 0.3
