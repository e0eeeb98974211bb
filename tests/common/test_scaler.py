"""The size of a student's input, and the scaling that both sides share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.scaler import MIN_SIDE, STRIDE, input_size, resize, scale_picture
from support.clips import picture


@pytest.mark.parametrize(
    ("width", "height", "scale", "long_side", "expected"),
    [
        (1920, 1080, 1.0, 640, (352, 640)),  # 360 is nearer to 352 than to 384
        (1280, 720, 0.5, 640, (192, 320)),
        (768, 576, 1.0, 640, (480, 640)),
        (576, 768, 1.0, 640, (640, 480)),  # upright cameras too
        (320, 240, 1.0, 640, (256, 320)),  # never enlarged; 240 lies halfway and goes to the even multiple
        (320, 240, 0.9**5, 640, (128, 192)),
        (40, 30, 1.0, 640, (64, 64)),
        (1, 4000, 1.0, 640, (640, 64)),
    ],
)
def test_input_size_of(width: int, height: int, scale: float, long_side: int, expected: tuple[int, int]) -> None:
    assert input_size(width, height, scale, long_side) == expected


@given(
    st.integers(1, 8192),
    st.integers(1, 8192),
    st.floats(0.05, 1.0),
    st.integers(MIN_SIDE // STRIDE, 40).map(STRIDE.__mul__),
)
def test_sides_are_multiples_of_the_stride_within_bounds(width: int, height: int, scale: float, long_side: int) -> None:
    for side in input_size(width, height, scale, long_side):
        assert side % STRIDE == 0
        assert MIN_SIDE <= side <= long_side


def test_a_smaller_scale_never_gives_a_larger_input() -> None:
    sizes = [input_size(1280, 720, 0.9**k) for k in range(20)]
    assert sizes == sorted(sizes, reverse=True)


def test_resize_gives_the_size_asked_for_from_odd_ones() -> None:
    assert resize(picture(3, 161, 127), 64, 96).shape == (64, 96, 3)


def test_resize_to_the_same_size_changes_nothing() -> None:
    rgb = picture(3)
    np.testing.assert_array_equal(resize(rgb, *rgb.shape[:2]), rgb)


def test_resize_takes_a_view_with_strides() -> None:
    rgb = picture(3, 320, 256)
    np.testing.assert_array_equal(resize(rgb[::2, ::2], 64, 64), resize(rgb[::2, ::2].copy(), 64, 64))


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize(stripes, 64, 64)
    assert abs(int(small[32, 32, 0]) - 100) <= 6


def test_colours_keep_their_places() -> None:
    small = resize(picture(0), 64, 64)
    assert small[4, 4].argmax() == 0  # the red corner, top left
    assert np.ptp(small[4, 60].astype(int)) <= 4


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv444p", "nv12", "yuyv422", "gray", "yuv420p10le"])
def test_every_usual_pixel_format_becomes_rgb_of_full_range(pixel_format: str) -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(white, format="rgb24").reformat(format=pixel_format)
    scaled = scale_picture(frame, 32, 48)
    assert scaled.shape == (32, 48, 3)
    assert scaled.min() >= 250


def test_one_picture_may_be_scaled_by_several_threads_at_once() -> None:
    frame = av.VideoFrame.from_ndarray(picture(1, 640, 480), format="rgb24").reformat(format="yuv420p")
    sizes = [(64, 96), (480, 640), (128, 128), (32, 32)] * 10
    expected = {size: scale_picture(frame, *size) for size in set(sizes)}
    with ThreadPoolExecutor(4) as pool:
        for size, scaled in zip(sizes, pool.map(lambda size: scale_picture(frame, *size), sizes), strict=True):
            np.testing.assert_array_equal(scaled, expected[size])
