from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.study.day.sky import Sky, Weather, sun_height
from culling.common.clock import DAY_S

SEEDS = st.integers(0, 10_000)
NOON_S = 12.6 * 3600
TIMES = st.floats(0, 10 * DAY_S, exclude_max=True)


def slow(sky: Sky) -> tuple[float, ...]:
    """Return what of a sky changes little by little."""
    return sky.daylight, *sky.colour, sky.sun, sky.rain, sky.fog, sky.lamps


@pytest.mark.parametrize("seed", range(6))
def test_noon_is_day_and_midnight_is_night_under_lamps(seed: int) -> None:
    noon, night = Weather(seed).at(12.6 * 3600), Weather(seed).at(1.0 * 3600)
    assert (noon.daylight, noon.lamps) == (1.0, 0.0)
    assert (night.daylight, night.lamps, night.sun) == (0.0, 1.0, 0.0)


def test_the_sun_rises_and_sets_where_it_is_told() -> None:
    assert sun_height(6.0, 6.0, 18.0) == pytest.approx(0, abs=1e-9)
    assert sun_height(12.0, 6.0, 18.0) == 50
    assert sun_height(0.5, 6.0, 18.0) == -45


@pytest.mark.parametrize("seed", range(6))
def test_every_day_has_rain_and_a_knock_and_steps_of_exposure(seed: int) -> None:
    skies = [Weather(seed).at(float(time)) for time in range(0, 86_400, 300)]
    assert any(sky.rain > 0.2 for sky in skies)
    assert 0 < sum(sky.knock != (0.0, 0.0) for sky in skies) < len(skies) / 8
    assert len({round(sky.gain, 3) for sky in skies}) > 10
    assert all(0 <= sky.rain <= 1 and 0 <= sky.fog <= 1 and -1 <= sky.sun_at <= 1 for sky in skies)


def test_clear_is_neither_wet_nor_dark_nor_askew() -> None:
    weather = Weather(2)
    for time in range(0, 86_400, 600):
        sky = weather.at(float(time))
        if weather.clear(float(time)):
            assert sky.daylight > 0.9
            assert sky.rain == 0.0
            assert sky.knock == (0.0, 0.0)


@settings(max_examples=50)
@given(SEEDS, st.lists(TIMES, min_size=1, max_size=5))
def test_a_sky_follows_from_seed_and_second_whatever_was_asked_before(seed: int, times: list[float]) -> None:
    weather = Weather(seed)
    skies = [weather.at(time) for time in times]
    assert skies[::-1] == [Weather(seed).at(time) for time in times[::-1]]


@given(SEEDS, TIMES)
def test_every_figure_of_a_sky_keeps_to_its_range(seed: int, time: float) -> None:
    sky = Weather(seed).at(time)
    assert all(0 <= share <= 1 for share in (sky.daylight, sky.sun, sky.rain, sky.fog, sky.lamps))
    assert -1 <= sky.sun_at <= 1
    assert all(0.7 < part < 1.4 for part in sky.colour)
    assert 0.88 * 2**-0.4 <= sky.gain <= 2**0.4
    assert all(abs(moved) <= 0.02 for moved in sky.knock)
    assert sky.sun <= sky.daylight


@given(SEEDS, st.integers(0, 3), st.floats(0.7, 12.6), st.floats(0.7, 12.6))
def test_it_gets_lighter_until_noon_and_darker_as_the_sun_goes_down_again(
    seed: int, day: int, one: float, two: float
) -> None:
    weather, noon = Weather(seed), day * DAY_S + NOON_S
    early, late = (weather.at(noon - 3600 * (12.6 - hour)) for hour in (min(one, two), max(one, two)))
    assert early.daylight <= late.daylight + 1e-9
    assert early.lamps >= late.lamps - 1e-9
    if noon + 3600 * (12.6 - min(one, two)) < (day + 1) * DAY_S:
        mirrored = weather.at(noon + 3600 * (12.6 - min(one, two)))
        assert mirrored.daylight == pytest.approx(early.daylight, abs=1e-6)


@given(st.floats(0, 24, exclude_max=True), st.floats(4, 8), st.floats(17, 21))
def test_the_sun_is_up_between_rise_and_fall_alone(hour: float, rise: float, fall: float) -> None:
    height = sun_height(hour, rise, fall)
    assert -45 <= height <= 50
    assert (height > 0) == (rise < hour < fall) or abs(height) < 1e-6


@given(SEEDS, TIMES)
def test_from_one_second_to_the_next_nothing_jumps_but_exposure_and_camera(seed: int, time: float) -> None:
    now, then = (Weather(seed).at(at) for at in (time, time + 1))
    assert slow(then) == pytest.approx(slow(now), abs=0.03)


def test_rain_that_began_before_midnight_ends_in_the_next_day() -> None:
    found = 0
    for seed in range(400):
        weather = Weather(seed)
        if (before := weather.at(DAY_S - 1)).rain > 0.1:
            found += 1
            assert slow(weather.at(DAY_S)) == pytest.approx(slow(before), abs=0.03)
            later = [weather.rain(1, hour / 20) for hour in range(19)]
            assert later[0] > 0
            assert min(later) == 0
    assert found > 2
