from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.study.day.light import (
    GREY_NIGHT,
    NIGHT_COLOUR,
    NIGHT_LEVEL,
    Light,
    Noise,
    beam,
    glow,
    lamp_map,
    lit,
    to_grey,
    to_linear,
)
from culling.cloud.study.day.sky import Sky

SIZE = (48, 64)
DARK: Light = np.zeros(SIZE, np.float32)
SHARE = st.floats(0, 1)
ANYWHERE = st.tuples(st.floats(-200, 260), st.floats(-200, 240))
DAY = Sky(1.0, (1.0, 1.0, 1.0), 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, (0.0, 0.0))


def scene(seed: int = 0) -> Light:
    return to_linear(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8))


def away_from(at: tuple[float, float], reach: float) -> NDArray[np.bool_]:
    """Return which pixels `(H, W)` lie farther than that from a place, along either side."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((np.abs(rows - at[1]) > reach) | (np.abs(columns - at[0]) > reach))


def test_every_grey_level_comes_back_from_linear_light() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (to_grey(to_linear(levels)) == levels).all()
    assert (to_linear(levels).min(), to_linear(levels).max()) == (0.0, 1.0)


@given(st.lists(st.floats(-5, 50, width=32), min_size=2, max_size=50))
def test_more_light_is_never_shown_darker_and_what_is_too_much_is_white(levels: list[float]) -> None:
    light = np.sort(np.array(levels, np.float32))
    shown = to_grey(light)
    assert shown.dtype == np.uint8
    assert (np.diff(shown.astype(int)) >= 0).all()
    assert (shown[light >= 1] == 255).all()
    assert (shown[light <= 0] == 0).all()


def test_plain_daylight_changes_nothing() -> None:
    light = scene()
    assert (lit(light, DAY, DARK) == light).all()


@settings(max_examples=30)
@given(SHARE, SHARE, st.floats(0.7, 1.4))
def test_a_grey_scene_is_darker_the_less_daylight_there_is(one: float, two: float, gain: float) -> None:
    grey = np.repeat(scene()[..., :1], 3, axis=2)
    less, more = (
        lit(grey, replace(DAY, daylight=daylight, gain=gain), DARK) for daylight in (min(one, two), max(one, two))
    )
    assert (less <= more + 1e-6).all()
    assert less.dtype == np.float32
    assert less.shape == grey.shape


def test_the_last_of_the_dusk_joins_the_day_without_a_step() -> None:
    light = scene()
    nearly = lit(light, replace(DAY, daylight=1 - 1e-6), DARK)
    assert np.abs(nearly - light).max() < 1e-5


def test_by_night_a_scene_has_little_light_and_colour() -> None:
    red = np.full((*SIZE, 3), (0.8, 0.1, 0.1), np.float32)
    night = lit(red, replace(DAY, daylight=0.0), DARK) / np.array(NIGHT_COLOUR)
    assert night.mean() == pytest.approx(NIGHT_LEVEL * (0.8 * 0.3 + 0.1 * 0.7), rel=0.3)
    spread = float(np.ptp(night[0, 0])) / NIGHT_LEVEL
    assert spread == pytest.approx(0.7 * (1 - GREY_NIGHT), rel=1e-3)


@settings(max_examples=30)
@given(SHARE, st.integers(0, 99))
def test_lamps_add_light_and_take_none(daylight: float, seed: int) -> None:
    lamps = np.random.default_rng(seed).uniform(0, 1, SIZE).astype(np.float32)
    sky, light = replace(DAY, daylight=daylight), scene(seed)
    before = light.copy()
    burning, without = lit(light, sky, lamps), lit(light, sky, DARK)
    assert (burning >= without - 1e-6).all()
    assert burning.mean() > without.mean()
    assert (light == before).all()


@given(ANYWHERE, st.floats(1, 9))
def test_a_lamp_that_shines_into_the_camera_is_seen_near_itself_alone(at: tuple[float, float], size: float) -> None:
    light = np.zeros((*SIZE, 3), np.float32)
    glow(light, at, size, np.array([1.0, 0.9, 0.8]))
    assert (light >= 0).all()
    assert not light[away_from(at, 4 * size + 3)].any()
    if 0 <= at[0] < SIZE[1] - 1 and 0 <= at[1] < SIZE[0] - 1:
        y, x = np.unravel_index(int(light[..., 0].argmax()), SIZE)
        assert np.hypot(x - at[0], y - at[1]) <= 1.0


@given(ANYWHERE, st.floats(1, 9))
def test_headlights_light_the_ground_around_a_place_alone(at: tuple[float, float], size: float) -> None:
    lamps = DARK.copy()
    beam(lamps, at, size)
    assert (lamps >= 0).all()
    assert (lamps <= 0.7).all()
    assert not lamps[away_from(at, 2.5 * size + 3)].any()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_lamps_stand_where_things_pass_and_every_way_has_some_light(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    ways = np.stack([draw.uniform(0, 64, count), draw.uniform(0, 48, count), draw.uniform(3, 15, count)], 1)
    lamps = lamp_map(SIZE, ways, seed)
    assert lamps.shape == SIZE
    assert lamps.dtype == np.float32
    assert (lamps > 0).all()
    assert lamps.max() < 1.2
    if count == 1:
        y, x = np.unravel_index(int(lamps.argmax()), SIZE)
        assert abs(x - ways[0, 0]) <= 1
        assert abs(y - ways[0, 1]) <= 1
    assert (lamps == lamp_map(SIZE, ways, seed)).all()


def test_where_nothing_passes_no_lamp_stands() -> None:
    assert not lamp_map(SIZE, np.zeros((0, 3)), 1).any()


@pytest.mark.parametrize("deviation", [0.8, 1.5, 3.0, 6.0])
def test_noise_has_the_deviation_that_was_asked_for(deviation: float) -> None:
    noise, draw = Noise(SIZE, 4), np.random.default_rng(5)
    grey = np.full((*SIZE, 3), 128, np.uint8)
    seen = np.stack([noise.add(grey, deviation, draw) for _ in range(12)]).astype(float) - 128
    assert seen.std() == pytest.approx(deviation, rel=0.12)
    assert abs(seen.mean()) < 0.15 * deviation


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0, 25))
def test_noise_never_turns_black_into_white(seed: int, deviation: float) -> None:
    noise, ends = Noise(SIZE, 4), np.zeros((*SIZE, 3), np.uint8)
    ends[:, 32:] = 255
    made = noise.add(ends, deviation, np.random.default_rng(seed))
    assert made.dtype == np.uint8
    assert made.shape == ends.shape
    assert made[:, :32].max() < 128
    assert made[:, 32:].min() > 128
    assert (made == noise.add(ends, deviation, np.random.default_rng(seed))).all()


def test_no_noise_is_the_picture_itself_and_two_frames_have_not_the_same() -> None:
    noise, draw = Noise(SIZE, 4), np.random.default_rng(1)
    picture = to_grey(scene())
    assert (noise.add(picture, 0.0, draw) == picture).all()
    assert (noise.add(picture, 3.0, draw) != noise.add(picture, 3.0, draw)).mean() > 0.5


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (49, 63)])
def test_odd_and_tiny_pictures_have_noise_too(size: tuple[int, int]) -> None:
    picture, draw = np.full((*size, 3), 99, np.uint8), np.random.default_rng(0)
    noise = Noise(size, 1)
    assert {noise.add(picture, 2.0, draw).shape for _ in range(20)} == {picture.shape}
