"""Label files: one JSON object a line, boxes xyxy in pixels of the full frame.

    {"source": "cameras/a.mp4", "frame": 120, "width": 768, "height": 576,
     "detections": [["person", 0.93, 12.0, 40.5, 40.0, 98.0]]}

`frame` counts from 0 in decoding order (0 for photographs). Several lines may describe one frame, as when a tool
writes one line per box: together they are its label. A box that a later line repeats counts once. A line that cannot
be used raises an `InputError` that names file and line.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import structlog

from culling.common.errors import InputError
from culling.common.frame import CLASSES, Detections

log = structlog.get_logger(__name__)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    frame: int
    width: int
    height: int
    detections: list[tuple[str, float, float, float, float, float]]


@dataclass(frozen=True)
class Label:
    """The label of one frame of one source; `at` is "file:line", of its first line, for messages."""

    source: str
    frame: int
    width: int
    height: int
    detections: Detections
    at: str


def read_labels(path: Path, classes: tuple[str, ...] = CLASSES) -> list[Label]:
    """Return the label of every frame in the file, in its order.

    Raises `InputError` for the first line that cannot be used.
    """
    try:
        lines = path.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read labels: {error.strerror}") from None
    labels = [_parse(line, f"{path}:{number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return merge_labels(labels)


def merge_labels(labels: Iterable[Label]) -> list[Label]:
    """Return one label for each frame of each source, in the order in which frames come first.

    A box that is repeated, with class and score, counts once, and that is logged. Raises `InputError` where two labels
    give a frame different sizes.
    """
    lines: dict[tuple[str, int], list[Label]] = {}
    for label in labels:
        lines.setdefault((label.source, label.frame), []).append(label)
    return [_merged(of_frame) if len(of_frame) > 1 else of_frame[0] for of_frame in lines.values()]


def _merged(labels: list[Label]) -> Label:
    first, rows, repeated = labels[0], dict[tuple[float, ...], None](), 0
    for label in labels:
        if (label.width, label.height) != (first.width, first.height):
            raise InputError(
                f"{label.at}: frame {label.frame} of {label.source} is {label.width}x{label.height} here "
                f"and {first.width}x{first.height} at {first.at}"
            )
        found = label.detections
        new = [
            (*map(float, box), float(s), int(c))
            for box, s, c in zip(found.boxes, found.scores, found.labels, strict=True)
        ]
        repeated += sum(row in rows for row in new)
        rows |= dict.fromkeys(new)
    if repeated:
        log.warning("labels_repeated", at=first.at, source=first.source, frame=first.frame, boxes=repeated)
    table = np.array(list(rows), np.float64).reshape(-1, 6)
    merged = Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
    return replace(first, detections=merged)


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
