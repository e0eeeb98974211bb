"""The place whose objects count: a zone of a camera in an `edge.toml`, by name, or corners.

An object is where it stands, at the middle of its box's lower edge, as in the regions of an edge.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from culling.common.errors import InputError, SettingsError
from culling.common.frame import Detections
from culling.common.wire.ignored import MOST_POINTS, Points, feet, inside

CORNERS = 'corners are fractions of the frame, at least three, e.g. --zone "0.1,0.5 0.9,0.5 0.9,1"'


@dataclass(frozen=True)
class Place:
    """A polygon, corners `(x, y)` in fractions of the upright frame."""

    polygon: tuple[tuple[float, float], ...]

    def only(self, found: Detections, width: int, height: int) -> Detections:
        """Return the detections that stand in it, of a frame of that size in pixels."""
        x, y = feet(found, width, height)
        return found.where(inside(self.polygon, x, y))


def find_place(said: str, edge: Path | None) -> Place:
    """Return the place that `--zone` names: corners, or the zone of that name in the settings file `edge` of an edge.

    A name may be `CAMERA/ZONE`. Raises SettingsError for what is neither, InputError for a file that cannot be read.
    """
    if "," in said:
        return Place(_checked(f"--zone {said}", _corners(said)))
    if edge is None:
        raise SettingsError(f"--zone {said}: name the file that has it with --edge edge.toml; or {CORNERS}")
    found = [(name, polygon) for name, polygon in _zones(edge) if said in (name, name.partition("/")[2])]
    if not found:
        known = ", ".join(name for name, _ in _zones(edge)) or "none"
        raise SettingsError(f"--zone {said}: {edge} has no such zone; it has {known}")
    if len(found) > 1:
        raise SettingsError(f"--zone {said}: {edge} has {' and '.join(name for name, _ in found)}; name one of them")
    name, polygon = found[0]
    return Place(_checked(f"{edge}: zone {name}", polygon))


def _corners(said: str) -> Any:
    try:
        return [[float(number) for number in corner.split(",")] for corner in said.split()]
    except ValueError:
        raise SettingsError(f"--zone {said}: {CORNERS}") from None


def _zones(edge: Path) -> Iterator[tuple[str, Any]]:
    """Yield every zone as `CAMERA/ZONE` with its polygon, whatever that is."""
    try:
        cameras = tomllib.loads(edge.read_text()).get("camera", [])
        for camera in cameras:
            for zone in camera.get("zone", []):
                yield f"{camera.get('name', '')}/{zone.get('name', '')}", zone.get("polygon", [])
    except OSError as error:
        raise InputError(f"{edge}: cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"{edge}: is no settings file of an edge; `culling edge check` says what is wrong") from None


def _checked(where: str, polygon: Any) -> tuple[tuple[float, float], ...]:
    """Return the polygon as points. Raises SettingsError for anything else."""
    try:
        points: Points = tuple((float(x), float(y)) for x, y in polygon)
    except (TypeError, ValueError):
        points = ()
    fractions = all(math.isfinite(value) and 0 <= value <= 1 for point in points for value in point)
    if not (3 <= len(points) <= MOST_POINTS and fractions):
        raise SettingsError(f"{where}: {CORNERS}")
    if np.linalg.matrix_rank(np.subtract(points, points[0]), tol=1e-9) < 2:
        raise SettingsError(f"{where}: all corners lie on one line, so that nothing stands between them; {CORNERS}")
    return tuple(points)
