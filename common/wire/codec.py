"""JPEG in and out: the header is read and the size checked before a single pixel is decoded."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from culling.common.errors import ProtocolError

MAX_PIXELS = 40_000_000
"""The largest picture accepted by default, in pixels: above any camera's frame, far below a decompression bomb."""


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return the JPEG of `rgb`, an `(H, W, 3)` picture; `quality` is 1 to 100."""
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return jpeg


def jpeg_size(jpeg: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return `(width, height)` in pixels, read from the header alone.

    Raises `ProtocolError` with reason `bad-image` when it is no JPEG, `image-too-large` above `max_pixels`.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    except (ValueError, OverflowError) as error:
        raise ProtocolError("bad-image", f"not a JPEG picture: {error}") from error
    if width * height > max_pixels:
        raise ProtocolError("image-too-large", f"the picture has {width} x {height} pixels, {max_pixels} are allowed")
    return width, height


def decode_jpeg(jpeg: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the picture as `(H, W, 3)` RGB.

    Raises `ProtocolError` with reason `bad-image` when it is no JPEG, is torn or damaged, and `image-too-large`
    above `max_pixels`, before anything is decoded.
    """
    jpeg_size(jpeg, max_pixels)
    try:
        rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
    except (ValueError, OverflowError) as error:
        raise ProtocolError("bad-image", f"the picture is damaged: {error}") from error
    return rgb
