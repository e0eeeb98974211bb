from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.hours import EVENT_RATE, MOST_TOGETHER, RARE_HOURS, Hours
from culling.cloud.weights.classes import CLASSES
from support.days import CAR, PERSON, small_cast

BUS = CLASSES.index("bus")
SMALL = small_cast()


@pytest.fixture(scope="module")
def hours(cast: Cast) -> Hours:
    return Hours(cast.actors, cast.seconds, 3, ())


def test_the_rush_is_busier_than_noon_and_that_than_night(hours: Hours) -> None:
    def seen(first: float, last: float) -> float:
        return mean(len(hours.on_scene(float(time))) for time in range(int(3600 * first), int(3600 * last), 30))

    night, rush, noon = seen(1, 4), seen(7.5, 8.5), seen(10, 11)
    assert night < 0.35 * noon
    assert rush > 1.2 * noon


def test_an_event_multiplies_the_rate_and_each_day_has_its_own(hours: Hours) -> None:
    event = hours.event(0)
    start = 3600 * event.start
    assert hours.rate(start + 1) == pytest.approx(EVENT_RATE * hours.rate(start - 1), rel=0.02)
    assert hours.event(1) != event
    assert 0.4 <= event.end - event.start <= 0.9


def test_what_is_on_the_scene_came_and_has_not_left(hours: Hours, cast: Cast) -> None:
    for time in range(28_000, 40_000, 501):
        for one in hours.on_scene(float(time)):
            assert 0 <= (time - one.came) * one.pace <= cast.actors[one.course].course.seconds


def test_what_passes_stays_the_same_from_one_second_to_the_next(hours: Hours) -> None:
    for time in range(28_000, 29_000, 7):
        now, then = hours.on_scene(float(time)), hours.on_scene(time + 0.2)
        assert len(set(now) - set(then)) <= 2


def test_what_is_common_comes_at_the_rate_of_all(hours: Hours) -> None:
    assert hours.share(0, 30_000.0) == 1.0


def small_hours(seed: int = 3) -> Hours:
    return Hours(SMALL.actors, SMALL.seconds, seed, (PERSON,))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.lists(st.floats(0, 200_000), min_size=1, max_size=4))
def test_what_passes_follows_from_seed_and_time_whatever_was_asked_before(seed: int, times: list[float]) -> None:
    hours = small_hours(seed)
    found = [hours.on_scene(time) for time in times]
    assert found[::-1] == [small_hours(seed).on_scene(time) for time in times[::-1]]


def test_in_the_order_in_which_things_came_each_looks_like_its_class() -> None:
    hours, mirrored = small_hours(), 0
    for time in range(28_000, 34_000, 53):
        for one in hours.on_scene(float(time)):
            label = SMALL.actors[one.course].label
            assert SMALL.actors[one.look].label == label
            assert 0.88 <= one.pace <= 1.15
            if one.mirrored:
                assert (label, one.look) == (PERSON, one.course)
                mirrored += 1
    assert mirrored > 5


def test_what_is_rare_has_two_hours_of_each_day_between_six_and_ten_at_night() -> None:
    bus = replace(SMALL.actors[0], label=BUS)
    hours = Hours((*SMALL.actors, *SMALL.actors, *SMALL.actors, bus), 16.0, 3, ())
    busy = set()
    for day in range(3):
        shares = [hours.share(BUS, 86_400.0 * day + 3600 * hour + 100) for hour in range(24)]
        assert Counter(shares) == {RARE_HOURS[0]: 2, RARE_HOURS[1]: 22}
        busy |= {(day, hour) for hour, share in enumerate(shares) if share == RARE_HOURS[0]}
        assert hours.share(CAR, 86_400.0 * day + 50_000) == 1.0
    assert all(6 <= hour < 22 for _, hour in busy)
    assert len({hour for _, hour in busy}) > 2, "other hours on other days"


def test_some_who_walk_come_in_company_of_at_most_six_and_nothing_on_wheels_does() -> None:
    hours, together = small_hours(), Counter[int]()
    for slot in range(1800, 4800, 5):
        time = slot * 15.0
        aside = [one for one in hours.on_scene(time) if abs(one.aside) > 0.5]
        assert all(SMALL.actors[one.course].label == PERSON for one in aside)
        together[len(aside)] += 1
    assert 0 < sum(count for size, count in together.items() if size) < 0.5 * sum(together.values())
    assert max(together) <= 3 * MOST_TOGETHER
