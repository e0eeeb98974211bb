"""The size of a student's input, and the one way in which both sides scale pictures to it: swscale, bilinear."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

LONG_SIDE = 640
"""Pixels of the long side of a student's input, unless its settings say otherwise."""

STRIDE = 32
"""Input height and width are multiples of this, the coarsest trunk stride, so that FPN levels add up."""

MIN_SIDE = 64
"""Least pixels of an input's side: two strides."""
INTERPOLATION = "BILINEAR"
"""swscale's bilinear filter widens with the ratio when it shrinks, so small objects are averaged, not skipped."""


def input_size(width: int, height: int, scale: float = 1.0, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Return the `(height, width)` of the student's input for frames of `width` by `height` pixels.

    The frame is shrunk until its long side is at most `long_side`, never enlarged, then multiplied by `scale`; each
    side is rounded to the nearest multiple of `STRIDE`, and is at least `MIN_SIDE`.
    """
    factor = scale * min(1.0, long_side / max(width, height))
    return _rounded(height * factor), _rounded(width * factor)


def resize(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return `rgb` `(H, W, 3)` as `(height, width, 3)`, through the scaler that the edge's decoder uses."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return scale_picture(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"), height, width)


def scale_picture(
    picture: av.VideoFrame, height: int, width: int, pixel_format: str = "rgb24", interpolation: str = INTERPOLATION
) -> NDArray[np.uint8]:
    """Return a decoded picture of any pixel format as `(height, width, 3)`, or `(height, width)` in `"gray"`.

    Safe from several threads at once on the same picture. Raises what PyAV raises when the picture cannot be scaled.
    """
    # picture.reformat() would keep one scaler on the picture, which two threads must not share.
    scaled = VideoReformatter().reformat(picture, width, height, pixel_format, interpolation=interpolation, threads=1)
    return np.asarray(scaled.to_ndarray(), np.uint8)


def quarter_turns(picture: av.VideoFrame) -> int:
    """Return how many counter-clockwise quarter turns bring a decoded picture upright, by its display matrix."""
    return round(picture.rotation / 90) % 4


def upright(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Return a decoded picture as `(H, W, 3)` RGB, turned as a player would show it; mirroring is not undone."""
    rgb = scale_picture(picture, picture.height, picture.width)
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns(picture)))


def _rounded(side: float) -> int:
    return max(MIN_SIDE, round(side / STRIDE) * STRIDE)
