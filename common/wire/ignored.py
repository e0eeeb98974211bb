"""Places of a camera's picture whose objects do not count, as they travel with each frame, and what stands in them.

An object is where it stands: at the middle of its box's lower edge. A polygon has its corners in fractions of the
upright frame; on the wire they are 16-bit fractions, little-endian, x before y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from culling.common.errors import ProtocolError
from culling.common.frame import Detections

MOST_POINTS = 100
MOST_PLACES = 100
MOST_BYTES = 16 * 1024
"""What the places of a camera may take in a header, which the detections need 7 kB of: thousands of corners."""

_ONE = 65_535
_POINT = 4  # bytes of a corner

Points: TypeAlias = Sequence[tuple[float, float]]


class Ignored(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place, and the names of the classes that do not count there; none: all of them."""

    corners: Annotated[bytes, Meta(min_length=3 * _POINT, max_length=MOST_POINTS * _POINT)]
    classes: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=256)] = ()

    @property
    def polygon(self) -> Points:
        """The corners, in fractions of the frame."""
        points = np.frombuffer(self.corners, "<u2").reshape(-1, 2) / _ONE
        return [(float(x), float(y)) for x, y in points]


Places: TypeAlias = Annotated[tuple[Ignored, ...], Meta(max_length=MOST_PLACES)]


def place(polygon: Points, classes: Sequence[str]) -> Ignored:
    """Return a place as it travels; `polygon` is in fractions of the frame."""
    corners = np.rint(np.asarray(polygon, np.float64).reshape(-1, 2) * _ONE)
    return Ignored(corners.astype("<u2").tobytes(), tuple(classes))


def encode(places: Places) -> bytes | None:
    """Return places as they are kept on disk; None for none."""
    return msgspec.msgpack.encode(places) if places else None


def decode(blob: bytes | None) -> Places:
    """Return places that were kept. Raises msgspec.MsgspecError, or ProtocolError where they are not sound."""
    places: Places = () if blob is None else msgspec.msgpack.decode(blob, type=Places)
    check(places)
    return places


def check(places: Places) -> None:
    """Raise ProtocolError("malformed") where a place's corners are no whole points."""
    if any(len(one.corners) % _POINT for one in places):
        raise ProtocolError("malformed", "a place that is ignored has half a corner")


def standing(
    places: Sequence[Ignored], found: Detections, classes: Sequence[str], width: int, height: int
) -> NDArray[np.bool_]:
    """Return which detections, `(N,)`, stand in a place that ignores their class.

    They are in pixels of a frame of that size, and their labels are indices into `classes`.
    """
    gone = np.zeros(len(found), bool)
    if not (places and len(found)):
        return gone
    x, y = feet(found, width, height)
    for one in places:
        gone |= inside(one.polygon, x, y) & of_classes(found, one.classes, classes)
    return gone


def inside(polygon: Points, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points lie in a polygon, by the even-odd rule; `x` and `y` have any shape, which the answer has."""
    found = np.zeros(np.broadcast(x, y).shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y1 != y2:
            found ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return found


def feet(found: Detections, width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where each object stands, in fractions of the frame; a box that sticks out stands at the border."""
    boxes = found.boxes.astype(np.float64)
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2 / width, boxes[:, 3] / height
    return np.clip(x, 0, 1 - 1e-9), np.clip(y, 0, 1 - 1e-9)


def of_classes(found: Detections, wanted: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which detections are of the classes `wanted`, by name; an empty list: all."""
    if not wanted:
        return np.ones(len(found), bool)
    return np.isin(found.labels, [number for number, name in enumerate(classes) if name in wanted])
