"""A camera that stands still, a black one, and a quiet scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from culling.edge.camera.stillness import FROZEN_S, Stillness

SHAPE = (18, 32)


def scene(seed: int) -> NDArray[np.uint8]:
    """A quiet scene, with the noise of a sensor on one pixel."""
    grey = np.full(SHAPE, 120, np.uint8)
    grey[seed % 18, seed % 32] += 1
    return grey


def test_the_same_picture_is_frozen_after_a_while_and_not_before() -> None:
    stillness = Stillness()
    assert not stillness.frozen(scene(0), 100)
    assert not stillness.frozen(scene(0), 100 + FROZEN_S - 0.1)
    assert stillness.frozen(scene(0), 100 + FROZEN_S)
    assert stillness.frozen(scene(0), 5000)


def test_a_frozen_picture_is_noticed_within_thirty_seconds() -> None:
    assert FROZEN_S <= 30


def test_a_quiet_scene_is_not_frozen_thanks_to_its_noise() -> None:
    stillness = Stillness()
    assert not any(stillness.frozen(scene(second), second) for second in range(600))


def test_any_change_thaws_it_at_once() -> None:
    stillness = Stillness()
    stillness.frozen(scene(0), 0)
    assert stillness.frozen(scene(0), 60)
    assert not stillness.frozen(scene(1), 60.1)


def test_black_with_noise_is_frozen_too() -> None:
    stillness, rng = Stillness(), np.random.default_rng(1)
    dark = [stillness.frozen(rng.integers(0, 12, SHAPE, np.uint8), second) for second in range(60)]
    assert dark[-1]
    assert not stillness.frozen(scene(1), 61)


def test_a_lamp_in_the_dark_is_a_picture() -> None:
    stillness, rng = Stillness(), np.random.default_rng(1)
    for second in range(60):
        night = rng.integers(0, 12, SHAPE, np.uint8)
        night[3, 3] = 200
        assert not stillness.frozen(night, second)


def test_another_size_is_another_picture() -> None:
    stillness = Stillness()
    stillness.frozen(np.full(SHAPE, 90, np.uint8), 0)
    assert not stillness.frozen(np.full((9, 16), 90, np.uint8), 60)
