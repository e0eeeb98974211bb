from __future__ import annotations

import pytest

from culling.cloud.study.day.sky import Weather, sun_height


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
