"""What every label format says: pictures with their sizes, and in each the boxes of named classes.

A box that sticks out of its picture is cut at the edge, and one that lies outside goes: every label tool does so, and a
person who drags a box past the edge means the edge. Both are counted. What makes no sense at all is an error.

A frame of a video has a file name of its own in formats that know pictures only: `clip.mp4@000120.jpg` is frame 120.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from culling.common.errors import InputError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ROUNDED = 0.01
"""Pixels by which a box may stick out because its edges, or fractions, were rounded: that is not counted."""

_FRAME = re.compile(r"(.+)@(\d{6,})\.jpg", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Box:
    """One object: its class, a score in [0, 1] (1 for a person's), and xyxy in pixels of the full frame.

    `at` says where it stands in its file, for messages; "" where that of its picture says it.
    """

    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float
    at: str = ""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Its edges: left, top, right, bottom."""
        return self.x1, self.y1, self.x2, self.y2


@dataclass(frozen=True)
class Picture:
    """A photograph (`frame` 0) or a frame of a video, its size in pixels, and its boxes; `at` is "file:line"."""

    source: str
    frame: int
    width: int
    height: int
    boxes: tuple[Box, ...]
    at: str

    @property
    def file_name(self) -> str:
        """The name under which formats that know pictures only have it."""
        is_file = self.frame == 0 and PurePosixPath(self.source).suffix.lower() in IMAGES
        return self.source if is_file else f"{self.source}@{self.frame:06d}.jpg"


@dataclass(frozen=True)
class Contents:
    """What a label file says: its pictures as they stand there, the classes that it lists (none: it lists none), and
    how much of each kind is `left_out`, since it is no box.
    """

    pictures: tuple[Picture, ...]
    classes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def distinct(names: Iterable[str], at: str) -> tuple[str, ...]:
    """Return class names. Raises InputError for one that is empty or comes twice."""
    seen: dict[str, None] = {}
    for name in names:
        if not name.strip():
            raise InputError(f"{at}: class {len(seen)} has no name")
        if name in seen:
            raise InputError(f"{at}: two classes are named {name!r}: rename one, or make them one")
        seen[name] = None
    return tuple(seen)


def named(file_name: str) -> tuple[str, int]:
    """Return source and frame of a picture's file name."""
    found = _FRAME.fullmatch(file_name)
    return (found[1], int(found[2])) if found else (file_name, 0)


@dataclass(frozen=True)
class Fitted:
    """Pictures whose boxes lie inside, how many boxes were cut at an edge (`clipped`) or lay `outside` and are gone,
    and where the first of both stands.
    """

    pictures: tuple[Picture, ...]
    clipped: int = 0
    outside: int = 0
    first: str = ""


def fitted(pictures: Iterable[Picture]) -> Fitted:
    """Return pictures with every box inside. Raises InputError for the first size, score or box that makes no sense."""
    kept: list[Picture] = []
    clipped = outside = 0
    first = ""
    for picture in pictures:
        if picture.frame < 0 or picture.width <= 0 or picture.height <= 0:
            raise InputError(f"{picture.at}: width and height must be positive, frame not negative")
        boxes = [(box, _inside(picture, box)) for box in picture.boxes]
        cut = [box for box, now in boxes if now is None or _differ(box, now)]
        gone = sum(now is None for _, now in boxes)
        outside, clipped = outside + gone, clipped + len(cut) - gone
        first = first or (cut[0].at or picture.at if cut else "")
        kept.append(replace(picture, boxes=tuple(now for _, now in boxes if now is not None)))
    return Fitted(tuple(kept), clipped, outside, first)


def _differ(one: Box, other: Box) -> bool:
    return any(abs(a - b) > ROUNDED for a, b in zip(one.corners, other.corners, strict=True))


def _inside(picture: Picture, box: Box) -> Box | None:
    """Return the part of a box that lies in its picture, the box itself if that is all; None if nothing does."""
    at = box.at or picture.at
    told = ", ".join(f"{edge:g}" for edge in box.corners)
    if not all(map(math.isfinite, (box.score, *box.corners))):
        raise InputError(f"{at}: box {told} or its score {box.score} is not a finite number")
    if not 0 <= box.score <= 1:
        raise InputError(f"{at}: score {box.score} is outside 0..1")
    if not (box.x1 < box.x2 and box.y1 < box.y2):
        raise InputError(f"{at}: box {told} has no area")
    x1, x2 = (min(max(edge, 0.0), float(picture.width)) for edge in (box.x1, box.x2))
    y1, y2 = (min(max(edge, 0.0), float(picture.height)) for edge in (box.y1, box.y2))
    if (x1, y1, x2, y2) == box.corners:
        return box
    return replace(box, x1=x1, y1=y1, x2=x2, y2=y2) if x1 < x2 and y1 < y2 else None
