"""The place that a person points at with a box: as it travels with a frame, and as an edge's settings have it."""

from __future__ import annotations

import json

from culling.cloud.store.frames import StoredFrame
from culling.common.errors import InputError
from culling.common.wire.ignored import Ignored, place

AROUND = 0.05
"""Share of a box's size by which the place is larger on each side: its object stands on the lower edge itself, and the
same object's box is a little different in every frame."""

DIGITS = 4
"""Of a fraction of the frame: half a pixel of 4K."""

Box = tuple[float, float, float, float, str]


def place_of(frame: StoredFrame, box: Box) -> Ignored:
    """Return the place where a box `(x1, y1, x2, y2, class)` in pixels stands; "" as its class means every class.

    Raises InputError for a box without area in the frame, and for a class that the camera does not look for.
    """
    x1, y1, x2, y2, name = box
    if not (x1 < x2 and y1 < y2 and x2 > 0 and y2 > 0 and x1 < frame.width and y1 < frame.height):
        raise InputError(f"frame {frame.id}: the box {[x1, y1, x2, y2]} covers nothing of its picture")
    if name and name not in frame.classes:
        raise InputError(f"frame {frame.id}: {name} is no class of its camera: {', '.join(frame.classes)}")
    dx, dy = AROUND * (x2 - x1), AROUND * (y2 - y1)
    left, right = _fraction(x1 - dx, frame.width), _fraction(x2 + dx, frame.width)
    top, bottom = _fraction(y1 - dy, frame.height), _fraction(y2 + dy, frame.height)
    return place([(left, top), (right, top), (right, bottom), (left, bottom)], [name] if name else [])


def to_toml(camera: str, one: Ignored) -> str:
    """Return a place as `[[camera.ignore]]` of an edge's settings."""
    points = ", ".join(f"[{round(x, DIGITS)}, {round(y, DIGITS)}]" for x, y in one.polygon)
    lines = [f"# below [[camera]] with name = {json.dumps(camera)}, in edge.toml", "[[camera.ignore]]"]
    lines.append(f"polygon = [{points}]")
    if one.classes:
        lines.append(f"classes = [{', '.join(json.dumps(name) for name in one.classes)}]")
    return "\n".join(lines) + "\n"


def _fraction(pixels: float, size: int) -> float:
    return round(min(1.0, max(0.0, pixels / size)), DIGITS)
