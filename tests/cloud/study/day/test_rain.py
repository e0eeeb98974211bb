from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.study.day.rain import BRIGHT, Rain, distance, fogged

SIZE = (48, 64)
SHARE = st.floats(0, 1)
RAIN = Rain(SIZE, 7)
DEPTH = np.linspace(6, 1, SIZE[0]).astype(np.float32)
SHINE = np.array([0.5, 0.55, 0.6], np.float32)


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def fallen(shown: NDArray[np.uint8], hard: float, daylight: float, seed: int) -> NDArray[np.uint8]:
    return RAIN.fall(shown, hard, daylight, np.random.default_rng(seed))


@given(SHARE, st.integers(0, 99))
def test_no_rain_is_the_picture_itself(daylight: float, seed: int) -> None:
    assert (fallen(picture(seed), 0.0, daylight, seed) == picture(seed)).all()


@given(SHARE, SHARE, st.integers(0, 99))
def test_streaks_brighten_and_harder_rain_brightens_more(one: float, two: float, seed: int) -> None:
    dry = picture(seed)
    less, more = (fallen(dry, hard, 1.0, seed) for hard in (min(one, two), max(one, two)))
    assert more.dtype == np.uint8
    assert more.shape == dry.shape
    assert (dry <= less).all()
    assert (less <= more).all()
    assert (more.astype(int) - dry).max() <= BRIGHT


def test_the_hardest_rain_hides_little_and_is_fainter_by_night() -> None:
    dry = np.full((*SIZE, 3), 60, np.uint8)
    day, night = (
        np.mean([fallen(dry, 1.0, daylight, seed).astype(int) - dry for seed in range(20)], 0)
        for daylight in (1.0, 0.0)
    )
    assert 0 < night.sum() < 0.5 * day.sum()
    assert np.mean(fallen(dry, 1.0, 1.0, 0) > 85) < 0.1


def test_each_frame_shows_other_streaks_and_the_same_draw_the_same() -> None:
    dry = np.full((*SIZE, 3), 60, np.uint8)
    assert len({fallen(dry, 1.0, 1.0, seed).tobytes() for seed in range(10)}) > 7
    assert (fallen(dry, 1.0, 1.0, 3) == Rain(SIZE, 7).fall(dry, 1.0, 1.0, np.random.default_rng(3))).all()


@pytest.mark.parametrize("size", [(2, 2), (7, 3), (49, 63)])
def test_it_rains_on_odd_and_tiny_pictures_too(size: tuple[int, int]) -> None:
    rain, draw, dry = Rain(size, 1), np.random.default_rng(0), np.zeros((*size, 3), np.uint8)
    assert {rain.fall(dry, 1.0, 1.0, draw).shape for _ in range(20)} == {dry.shape}


@given(st.integers(0, 99))
def test_no_fog_is_the_scene_itself(seed: int) -> None:
    light = np.random.default_rng(seed).uniform(0, 2, (*SIZE, 3)).astype(np.float32)
    assert (fogged(light, 0.0, DEPTH, SHINE) == light).all()


@given(SHARE, SHARE, st.integers(0, 99))
def test_fog_takes_a_scene_towards_its_own_light_the_thicker_the_more(one: float, two: float, seed: int) -> None:
    light = np.random.default_rng(seed).uniform(0, 2, (*SIZE, 3)).astype(np.float32)
    thin, thick = (fogged(light, fog, DEPTH, SHINE) for fog in (min(one, two), max(one, two)))
    assert thick.dtype == np.float32
    assert thick.shape == light.shape
    assert (np.abs(thick - SHINE) <= np.abs(thin - SHINE) + 1e-5).all()
    assert (thick >= np.minimum(light, SHINE) - 1e-5).all()
    assert (thick <= np.maximum(light, SHINE) + 1e-5).all()


@given(st.floats(0.05, 1))
def test_what_is_farther_is_in_thicker_fog(fog: float) -> None:
    light = np.zeros((*SIZE, 3), np.float32)
    rows = fogged(light, fog, DEPTH, SHINE)[:, 0, 0]
    assert (np.diff(rows) < 0).all(), "the lower a row, the nearer, and the less fog is before it"


@given(st.lists(st.tuples(st.floats(-20, 90), st.floats(-30, 80), st.floats(1, 60)), min_size=2, max_size=30))
def test_no_row_is_nearer_than_one_below_it(places: list[tuple[float, float, float]]) -> None:
    away = distance(SIZE[0], np.array(places))
    assert away.shape == (SIZE[0],)
    assert away.dtype == np.float32
    assert (np.diff(away) <= 1e-6).all()
    assert away.max() <= 9
    assert 1 <= away[-1] <= 1 + 2 / SIZE[0] + 1e-6


def test_a_row_on_which_things_are_half_as_high_is_twice_as_far() -> None:
    feet = np.linspace(10, 47, 8)
    away = distance(48, np.stack([np.full(8, 30.0), feet, 0.5 * feet], 1))
    assert away[47] == pytest.approx(1.0)
    assert away[47] / away[24] == pytest.approx(24 / 47, abs=0.01)


def test_where_all_pass_on_one_row_the_picture_is_taken_for_a_plain_scene() -> None:
    away = distance(48, np.array([[x, 30.0, 12.0] for x in range(0, 60, 10)]))
    assert away[0] == pytest.approx(3.0)
    assert away[24] == pytest.approx(2.0)
