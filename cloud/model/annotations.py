"""Label files: one JSON object a line, boxes xyxy in pixels of the full frame.

    {"source": "cameras/a.mp4", "frame": 120, "width": 768, "height": 576,
     "detections": [["person", 0.93, 12.0, 40.5, 40.0, 98.0]]}

`frame` counts from 0 in decoding order (0 for photographs). A line that cannot be used raises an
`InputError` that names file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from culling.common.errors import InputError
from culling.common.frame import CLASSES, Detections


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    frame: int
    width: int
    height: int
    detections: list[tuple[str, float, float, float, float, float]]


@dataclass(frozen=True)
class Label:
    """The labels of one frame of one source; `at` is "file:line", for messages."""

    source: str
    frame: int
    width: int
    height: int
    detections: Detections
    at: str


def read_labels(path: Path, classes: tuple[str, ...] = CLASSES) -> list[Label]:
    """Return every label of the file, in its order. Raises `InputError` for the first line that cannot be used."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read labels: {error.strerror}") from None
    labels = [_parse(line, f"{path}:{number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return labels


def write_labels(path: Path, labels: list[Label], classes: tuple[str, ...] = CLASSES) -> None:
    """Write labels in the format that `read_labels` reads."""
    path.write_bytes(b"".join(msgspec.json.encode(_line(label, classes)) + b"\n" for label in labels))


def _line(label: Label, classes: tuple[str, ...]) -> _Line:
    found = label.detections
    rows = [
        (classes[int(c)], round(float(s), 4), *(round(float(v), 2) for v in box))
        for c, s, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]
    return _Line(label.source, label.frame, label.width, label.height, rows)  # type: ignore[arg-type]


def _parse(line: bytes, at: str, classes: tuple[str, ...]) -> Label:
    try:
        row = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{at}: not a label: {error}") from None
    if row.frame < 0 or row.width <= 0 or row.height <= 0:
        raise InputError(f"{at}: width and height must be positive, frame not negative")
    for problem in _problems(row, classes):
        raise InputError(f"{at}: {problem}")
    boxes = np.array([d[2:] for d in row.detections], np.float32).reshape(-1, 4)
    scores = np.array([d[1] for d in row.detections], np.float32)
    indices = np.array([classes.index(d[0]) for d in row.detections], np.int64)
    return Label(row.source, row.frame, row.width, row.height, Detections(boxes, scores, indices), at)


def _problems(row: _Line, classes: tuple[str, ...]) -> Iterator[str]:
    for name, score, x1, y1, x2, y2 in row.detections:
        if name not in classes:
            yield f"unknown class {name!r}; known are {', '.join(classes)}"
        if not 0 <= score <= 1:
            yield f"score {score} is outside 0..1"
        if not (x1 < x2 and y1 < y2):
            yield f"box {x1}, {y1}, {x2}, {y2} has no area"
        if min(x1, y1) < -1 or x2 > row.width + 1 or y2 > row.height + 1:
            yield f"box {x1}, {y1}, {x2}, {y2} lies outside its {row.width}x{row.height} image"
