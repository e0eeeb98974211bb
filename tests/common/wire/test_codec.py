from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.common.errors import ProtocolError
from culling.common.wire.codec import MAX_PIXELS, decode_jpeg, encode_jpeg, jpeg_size


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth `(H, W, 3)` picture: red grows to the right, green downwards, blue is 40."""
    rgb = np.full((height, width, 3), 40, np.uint8)
    rgb[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    rgb[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return rgb


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG, whose header claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def reason_of(jpeg: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode_jpeg(jpeg, max_pixels)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47), (1, 1), (1, 300)])
def test_a_picture_comes_back_nearly_as_it_was(height: int, width: int) -> None:
    rgb = gradient(height, width)
    back = decode_jpeg(encode_jpeg(rgb))
    assert back.shape == rgb.shape
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - rgb).mean() < 4


def test_colours_keep_their_order() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert decode_jpeg(encode_jpeg(red))[8, 8].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_a_cut_out_of_a_larger_picture_is_encoded() -> None:
    cut = gradient(64, 64)[8:40, ::2]
    assert jpeg_size(encode_jpeg(cut)) == (32, 32)


def test_less_quality_takes_fewer_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, quality=30)) < len(encode_jpeg(noise, quality=90)) / 2


def test_the_size_is_width_then_height() -> None:
    assert jpeg_size(encode_jpeg(gradient(20, 50))) == (50, 20)


@pytest.mark.parametrize("junk", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, b"no picture at all"])
def test_what_is_no_jpeg_is_refused(junk: bytes) -> None:
    assert reason_of(junk) == "bad-image"
    with pytest.raises(ProtocolError):
        jpeg_size(junk)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_torn_jpeg_is_refused_not_filled_with_grey(kept: float) -> None:
    jpeg = encode_jpeg(np.random.default_rng(2).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert reason_of(jpeg[: int(len(jpeg) * kept)]) == "bad-image"


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = with_size(encode_jpeg(gradient(16, 16)), 65_000, 65_000)
    assert reason_of(bomb) == "image-too-large"
    with pytest.raises(ProtocolError, match="65000 x 65000"):
        jpeg_size(bomb)


def test_the_largest_allowed_picture_passes_and_one_pixel_more_does_not() -> None:
    jpeg = encode_jpeg(gradient(20, 50))
    assert decode_jpeg(jpeg, max_pixels=1000).shape == (20, 50, 3)
    assert reason_of(jpeg, max_pixels=999) == "image-too-large"


@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_gives_a_picture_or_our_error(at: int, value: int) -> None:
    jpeg = bytearray(encode_jpeg(gradient(24, 24)))
    jpeg[at % len(jpeg)] = value
    with suppress(ProtocolError):
        assert decode_jpeg(bytes(jpeg), max_pixels=100_000).ndim == 3


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_our_error(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_jpeg(b"\xff\xd8\xff\xc0" + junk)
