from __future__ import annotations

from statistics import mean

import pytest

from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.hours import EVENT_RATE, Hours


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
