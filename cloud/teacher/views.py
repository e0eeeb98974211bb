"""Several looks of one teacher at a frame: whole, mirrored, larger, smaller, in overlapping tiles.

A view is written `whole`, `flip`, `tiles 2x2` (columns x rows) or `scale 1.5`. Pure: no teacher is loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from culling.common.frame import Detections

OVERLAP = 0.1
"""A tile is wider than its share of the frame by this much of the frame, so that what one cuts another holds."""

EDGE = 4.0
"""Pixels: a box that ends so close to a side at which a tile cuts the frame is of an object that it cuts too."""

_TILES = re.compile(r"tiles ([1-9])x([1-9])")
_SCALE = re.compile(r"scale (\d+(?:\.\d+)?)")
SMALLEST, LARGEST = 0.25, 4.0


@dataclass(frozen=True)
class View:
    """One way to look at a frame: in `columns` by `rows` tiles, mirrored or not, the input multiplied by `scale`."""

    columns: int = 1
    rows: int = 1
    flip: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Window:
    """A part of a frame: its left and top, its width and height, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def region(self) -> tuple[float, float, float, float]:
        """The same as xyxy."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def parse_view(text: str) -> View:
    """Return the view that `text` describes. Raises ValueError, which says what a view looks like."""
    word = " ".join(text.split())
    if word in ("whole", "flip"):
        return View(flip=word == "flip")
    if tiles := _TILES.fullmatch(word):
        return View(int(tiles[1]), int(tiles[2]))
    if (scale := _SCALE.fullmatch(word)) and SMALLEST <= float(scale[1]) <= LARGEST:
        return View(scale=float(scale[1]))
    raise ValueError(
        f"{text!r} is no view; write `whole`, `flip`, `tiles 2x2` (up to 9x9) or `scale 1.5` "
        f"({SMALLEST:g} to {LARGEST:g})"
    )


def windows(view: View, height: int, width: int) -> Iterator[Window]:
    """Yield the windows through which `view` looks at a frame of that size; together they cover it."""
    tall, wide = _side(height, view.rows), _side(width, view.columns)
    for row in range(view.rows):
        for column in range(view.columns):
            yield Window(_start(width, wide, view.columns, column), _start(height, tall, view.rows, row), wide, tall)


def to_whole(found: Detections, window: Window, view: View, height: int, width: int) -> Detections:
    """Return what was found in a window in pixels of the frame, mirrored back, without what the window cut through."""
    boxes = found.boxes
    if view.flip:
        boxes = np.stack([window.width - boxes[:, 2], boxes[:, 1], window.width - boxes[:, 0], boxes[:, 3]], axis=1)
    x1, y1, x2, y2 = boxes.T
    cut = (x1 < EDGE) & (window.left > 0) | (y1 < EDGE) & (window.top > 0)
    cut |= (x2 > window.width - EDGE) & (window.left + window.width < width)
    cut |= (y2 > window.height - EDGE) & (window.top + window.height < height)
    offset = np.array([window.left, window.top, window.left, window.top], np.float32)
    return Detections(np.asarray(boxes + offset, np.float32), found.scores, found.labels).where(~cut)


def _side(whole: int, parts: int) -> int:
    return whole if parts == 1 else min(whole, int(whole * (1 / parts + OVERLAP)))


def _start(whole: int, side: int, parts: int, number: int) -> int:
    return round((whole - side) * number / (parts - 1)) if parts > 1 else 0
