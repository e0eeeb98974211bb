"""Regions of a camera's picture: `mask` hides pixels, `ignore` drops detections, `zone` counts what stands in it.

    camera thread    frame → mask → the newest frame      before a student, a JPEG or a thumbnail sees it
    main loop        detections → ignore → loss           as if they had not been found
                     detections → zone → record           who is in it, who entered, who left

A polygon is a list of points in fractions of the upright frame, so that it fits any resolution. An object is where it
stands: at the middle of its box's lower edge.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from culling.common.config import NAME, Section
from culling.common.detections import ZoneCounts
from culling.common.frame import Detections
from culling.common.scaler import scale_picture
from culling.common.wire.ignored import MOST_POINTS, Places, Points, feet, inside, of_classes, standing
from culling.common.wire.ignored import place as travelling

COVER_GRID = 128
"""A mask that leaves no cell of such a grid free covers everything."""
STEADY = 3
"""Frames in a row that a count, or a tracked object, has to hold before somebody entered or left: boxes come and go."""
UNSEEN_S = 2.0
"""A tracked object that is nowhere for so long has left: longer than a track waits for its object."""
BLACK = {"y": 0, "uv": 128, "rgb": 0}
PLANES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"), ("y", "uv", "uv")),
    **dict.fromkeys(("nv12", "nv21"), ("y", "uv")),
    "gray": ("y",),
}
"""Formats whose planes are hidden in place, 8 bits a sample; any other becomes RGB."""


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        pixels = ": divide pixels by the frame's width or height" if value > 1 else ""
        raise ValueError(f"{value:g} is outside the frame: points are fractions of the frame, 0 to 1{pixels}")
    return value


Fraction = Annotated[float, AfterValidator(_fraction)]


def _simple(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(points) < 3:
        raise ValueError(f"a polygon takes at least three points, there are {len(points)}")
    if len(points) > MOST_POINTS:
        raise ValueError(f"a polygon takes at most {MOST_POINTS} points, there are {len(points)}")
    if len(set(points)) < len(points):
        raise ValueError("a point of the polygon is given twice: the last one is joined to the first by itself")
    if (crossing := _crossing(points)) is not None:
        raise ValueError(f"the polygon crosses itself: at the sides from its points {crossing[0]} and {crossing[1]}")
    return points


Polygon = Annotated[tuple[tuple[Fraction, Fraction], ...], AfterValidator(_simple)]


class IgnoreSettings(Section):
    """`[[camera.ignore]]`: objects of `classes` that stand in `polygon` are dropped, before the loss and any output."""

    polygon: Polygon = Field(description="points `[x, y]` in fractions of the frame")
    classes: tuple[str, ...] = Field((), description="classes that are ignored there; an empty list: all")


class ZoneSettings(Section):
    """`[[camera.zone]]`: a place whose objects are counted, in records and by outputs."""

    name: Annotated[str, Field(pattern=NAME)] = Field(description="name of the zone")
    polygon: Polygon = Field(description="points `[x, y]` in fractions of the frame")
    classes: tuple[str, ...] = Field((), description="classes that are counted; an empty list: all")
    score: float = Field(0.5, ge=0, le=1, description="least score of a box that is counted")


def places(ignore: Sequence[IgnoreSettings]) -> Places:
    """Return what a camera ignores as it travels with its frames."""
    return tuple(travelling(one.polygon, one.classes) for one in ignore)


def covers_all(polygons: Sequence[Points]) -> bool:
    """Return whether polygons leave nothing of a frame."""
    return bool(polygons) and bool(_raster(polygons, COVER_GRID, COVER_GRID).all())


class Mask:
    """Hides polygons of every picture of one camera; what was there is black, and cannot be had back."""

    def __init__(self, polygons: Sequence[Points]) -> None:
        self._polygons = polygons
        self._sizes: dict[tuple[int, int, int], NDArray[np.bool_]] = {}

    def hide(self, picture: av.VideoFrame, turn: int) -> av.VideoFrame:
        """Return a picture without what is masked; `turn` quarter turns counter-clockwise bring it upright.

        The picture may be changed itself. Raises what PyAV raises; then nothing of it may be used.
        """
        if not self._polygons:
            return picture
        hidden = self._of(picture.height, picture.width, turn)
        if picture.format.name not in PLANES:
            rgb = scale_picture(picture, picture.height, picture.width)
            rgb[hidden] = BLACK["rgb"]
            return av.VideoFrame.from_ndarray(rgb, format="rgb24")
        picture.make_writable()  # the decoder builds later pictures on its own copy
        for plane, kind in zip(picture.planes, PLANES[picture.format.name], strict=True):
            _blacken(plane, hidden, BLACK[kind], 2 if len(picture.planes) == 2 and kind == "uv" else 1)
        return picture

    def _of(self, height: int, width: int, turn: int) -> NDArray[np.bool_]:
        """Return the mask of pictures of that size, as they are decoded."""
        size = height, width, turn
        if size not in self._sizes:
            upright = (width, height) if turn % 2 else (height, width)
            hidden = np.rot90(_raster(self._polygons, *upright), -turn)
            self._sizes = {size: np.ascontiguousarray(_grown(hidden))}
        return self._sizes[size]


class Regions:
    """What one camera ignores, and counts in its zones; frames come in order.

    `ignored` are the places as they travel with the frames: the cloud judges by the same corners.
    """

    def __init__(self, ignore: Sequence[IgnoreSettings] = (), zones: Sequence[ZoneSettings] = ()) -> None:
        self.ignored: Places = places(ignore)
        self._zones = [_Zone(zone) for zone in zones]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the zones."""
        return tuple(zone.name for zone in self._zones)

    def asking(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the places that ask for some classes alone, by their keys in the camera's table, with the classes."""
        yield from ((f"ignore.{number}.classes", place.classes) for number, place in enumerate(self.ignored))
        yield from ((f"zone.{zone.name}.classes", zone.classes) for zone in self._zones)

    def kept(self, found: Detections, classes: Sequence[str], width: int, height: int) -> Detections:
        """Return the detections, in pixels of a frame of that size, that are not ignored."""
        if not (self.ignored and len(found)):
            return found
        return found.where(~standing(self.ignored, found, classes, width, height))

    def count(
        self,
        found: Detections,
        classes: Sequence[str],
        width: int,
        height: int,
        tracks: NDArray[np.int64] | None = None,
        at: float = 0.0,
    ) -> tuple[NDArray[np.bool_], dict[str, ZoneCounts]]:
        """Return for each zone which detections are in it, `(zones, N)`, and the counts by its name.

        With `tracks`, the numbers of the detections' objects, each object enters and leaves by itself; `at` is the
        frame's time in seconds.
        """
        x, y = feet(found, width, height)
        where = np.array([zone.holds(found, classes, x, y) for zone in self._zones], bool).reshape(
            len(self._zones), len(found)
        )
        names = [classes[label] for label in found.labels.tolist()]
        counts = {}
        for zone, row in zip(self._zones, where, strict=True):
            if tracks is not None:
                zone.follow(row, names, tracks.tolist(), at)
            counts[zone.name] = zone.count(row, names, settle=tracks is None)
        return where, counts


@dataclass
class _Member:
    """An object that is followed: whether it is in a zone, for how many frames it has been otherwise, its last time."""

    name: str
    last: float
    inside: bool = False
    otherwise: int = 0

    def moved(self, inside: bool, at: float) -> bool:
        """Return whether it has now been long enough where it was not: a box trembles on the border."""
        self.last = at
        self.otherwise = 0 if inside == self.inside else self.otherwise + 1
        if self.otherwise < STEADY:
            return False
        self.inside, self.otherwise = inside, 0
        return True


class _Zone:
    """One zone, and who is in it: by number where objects are tracked, else by counts that have held for a while."""

    def __init__(self, settings: ZoneSettings) -> None:
        self.name, self.classes = settings.name, settings.classes
        self._settings = settings
        self._newest: deque[Counter[str]] = deque(maxlen=STEADY)
        self._steady: Counter[str] = Counter()
        self._entered: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._members: dict[int, _Member] = {}

    def holds(
        self, found: Detections, classes: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        settings = self._settings
        sure: NDArray[np.bool_] = found.scores >= settings.score
        return inside(settings.polygon, x, y) & sure & of_classes(found, settings.classes, classes)

    def follow(self, where: NDArray[np.bool_], names: Sequence[str], tracks: Sequence[int], at: float) -> None:
        """Note which objects came and went; one that is nowhere has gone once it has been so for a while."""
        for place, track in enumerate(tracks):
            if track >= 0:
                member = self._members.setdefault(track, _Member(names[place], at))
                if member.moved(bool(where[place]), at):
                    (self._entered if member.inside else self._left)[member.name] += 1
        for track, member in list(self._members.items()):
            if at - member.last > UNSEEN_S:
                if member.inside:
                    self._left[member.name] += 1
                del self._members[track]

    def count(self, where: NDArray[np.bool_], names: Sequence[str], settle: bool) -> ZoneCounts:
        """Return the counts of a frame; with `settle`, who came and went follows from them."""
        now = Counter(names[place] for place in np.flatnonzero(where).tolist())
        self._newest.append(now)
        if settle and len(self._newest) == STEADY:
            for name in {name for one in (*self._newest, self._steady) for name in one}:
                self._settle(name, [one[name] for one in self._newest])
        return ZoneCounts(dict(now), dict(self._entered), dict(self._left))

    def _settle(self, name: str, counts: list[int]) -> None:
        before = self._steady[name]
        after = max(min(counts), min(before, max(counts)))
        if after > before:
            self._entered[name] += after - before
        elif after < before:
            self._left[name] += before - after
        self._steady[name] = after


def _raster(polygons: Sequence[Points], height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels whose middle is in a polygon, `(height, width)`."""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    found = np.zeros((height, width), bool)
    for polygon in polygons:
        found |= inside(polygon, x[None, :], y[:, None])
    return found


def _grown(hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask that is a pixel larger on every side, so that no pixel that a polygon touches is left."""
    padded = np.pad(hidden, 1)
    around = [padded[y : y + hidden.shape[0], x : x + hidden.shape[1]] for y in range(3) for x in range(3)]
    return np.asarray(np.logical_or.reduce(around), bool)


def _blacken(plane: av.video.plane.VideoPlane, hidden: NDArray[np.bool_], black: int, samples: int) -> None:
    """Overwrite what is hidden in a plane with `samples` values a pixel, of which one may stand for several pixels."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
    down, across = (-(-full // part) for full, part in zip(hidden.shape, (plane.height, plane.width), strict=True))
    tall, wide = plane.height * down, plane.width * across
    whole = np.pad(hidden, ((0, tall - hidden.shape[0]), (0, wide - hidden.shape[1])))
    small = whole.reshape(plane.height, down, plane.width, across).any(axis=(1, 3))
    rows[:, : plane.width * samples][np.repeat(small, samples, axis=1)] = black


def _crossing(points: Points) -> tuple[int, int] | None:
    """Return the numbers, from 1, of the points at which two sides that cross or touch each other begin."""
    sides = list(zip(points, [*points[1:], points[0]], strict=True))
    for one, (a, b) in enumerate(sides):
        for other in range(one + 1, len(sides)):
            next_to = other == one + 1 or (one == 0 and other == len(sides) - 1)
            if _meet(a, b, *sides[other], next_to):
                return one + 1, other + 1
    return None


def _meet(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float], next_to: bool
) -> bool:
    """Return whether two sides have a point in common; for those `next_to` each other, more than their corner."""
    if next_to:
        corner, one, other = (b, a, d) if b == c else (a, b, c)
        ahead = (one[0] - corner[0]) * (other[0] - corner[0]) + (one[1] - corner[1]) * (other[1] - corner[1])
        return _turn(one, corner, other) == 0 and ahead > 0
    turns = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _between(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _between(a: tuple[float, float], b: tuple[float, float], point: tuple[float, float]) -> bool:
    return all(min(a[axis], b[axis]) <= point[axis] <= max(a[axis], b[axis]) for axis in (0, 1))
