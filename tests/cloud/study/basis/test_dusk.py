from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.study.basis.dusk import dusk
from culling.common.video import BUNDLED_CLIP, read_frames

DARKNESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    ((_, frame),) = read_frames(BUNDLED_CLIP, {0})
    return frame


def test_it_gets_darker_all_the_way(picture: NDArray[np.uint8]) -> None:
    luminance = [float(dusk(picture, darkness, 0).mean()) for darkness in DARKNESS]
    assert all(later < earlier - 2 for earlier, later in pairwise(luminance)), luminance
    assert 0.25 < luminance[-1] / luminance[0] < 0.6


def test_the_same_frame_and_seed_give_the_same_picture_and_daylight_is_left_alone(picture: NDArray[np.uint8]) -> None:
    assert np.array_equal(dusk(picture, 0.7, 5), dusk(picture, 0.7, 5))
    assert not np.array_equal(dusk(picture, 0.7, 5), dusk(picture, 0.7, 6))
    assert dusk(picture, 0.0, 5) is picture


def test_noise_grows_with_the_gain() -> None:
    plain = np.full((64, 64, 3), 120, np.uint8)
    noise = [float((dusk(plain, darkness, 1) / dusk(plain, darkness, 1).mean()).std()) for darkness in DARKNESS[1:]]
    assert all(later > earlier for earlier, later in pairwise(noise)), noise


def test_lamps_are_warm() -> None:
    red, _, blue = dusk(np.full((64, 64, 3), 160, np.uint8), 1.0, 2).mean((0, 1))
    assert red > blue + 5


def test_things_stay_where_they_are_so_labels_stay_true(picture: NDArray[np.uint8]) -> None:
    """Blocks of the picture keep their order of brightness: nothing moves, nothing appears."""
    dark = dusk(picture, 1.0, 3)
    assert dark.shape == picture.shape
    day, night = (_blocks(frame) for frame in (picture, dark))
    assert np.corrcoef(day, night)[0, 1] > 0.97


def _blocks(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    height, width = (side // 16 * 16 for side in frame.shape[:2])
    grey = frame[:height, :width].mean(2)
    return np.asarray(grey.reshape(height // 16, 16, width // 16, 16).mean((1, 3)).ravel())
