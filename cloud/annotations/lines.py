"""The project's own label files: one JSON object a line, boxes xyxy in pixels of the full frame.

    {"source": "cameras/a.mp4", "frame": 120, "width": 768, "height": 576,
     "detections": [["person", 0.93, 12.0, 40.5, 40.0, 98.0]]}

`frame` counts from 0 in decoding order (0 for photographs). Several lines may describe one frame, as when a tool
writes one line per box: together they are its label. A box that a later line repeats counts once, one that sticks out
of its frame is cut at the edge. A line that cannot be used raises an `InputError` that names file and line.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import structlog

from culling.cloud.annotations.looks import TITLES, looks_like
from culling.cloud.annotations.picture import Box, Fitted, Picture, fitted
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from culling.common.frame import Detections

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
    """Return the label of every frame in the file, in its order; boxes that had to be cut are counted in the log.

    Raises `InputError` for the first line that cannot be used.
    """
    try:
        found = fitted(read(path))
    except InputError as error:
        likely = looks_like(path)
        if likely is None or likely == "culling":
            raise
        hint = f"this looks like {TITLES[likely]}: make lines of it with `culling labels convert`"
        raise InputError(f"{error}; {hint}") from None
    if not found.pictures:
        raise InputError(f"{path}: holds no labels")
    warn_clipped(path, found)
    return merge_labels(to_label(picture, classes) for picture in found.pictures)


def warn_clipped(path: Path, found: Fitted) -> None:
    """Log how many boxes of a file had to be cut, or are gone, if any."""
    if found.clipped or found.outside:
        log.warning("labels_clipped", file=str(path), clipped=found.clipped, outside=found.outside, first=found.first)


def read(path: Path) -> Iterator[Picture]:
    """Yield what each line says, as it stands there, or of `labels.jsonl` of a folder. Raises `InputError`."""
    path = path / "labels.jsonl" if path.is_dir() else path
    try:
        lines = path.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read labels: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _parse(line, f"{path}:{number}")


def _parse(line: bytes, at: str) -> Picture:
    try:
        row = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{at}: not a label: {error}") from None
    return Picture(row.source, row.frame, row.width, row.height, tuple(Box(*told) for told in row.detections), at)


def to_label(picture: Picture, classes: tuple[str, ...] = CLASSES) -> Label:
    """Return a picture's boxes as labels of `classes`. Raises `InputError` for another class."""
    for box in picture.boxes:
        if box.name not in classes:
            at = box.at or picture.at
            raise InputError(f"{at}: unknown class {box.name!r}; known are {', '.join(classes)}")
    table = np.array([(*box.corners, box.score, classes.index(box.name)) for box in picture.boxes], np.float64)
    table = table.reshape(-1, 6)
    found = Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
    return Label(picture.source, picture.frame, picture.width, picture.height, found, picture.at)


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


def write_labels(path: Path, labels: Sequence[Label], classes: tuple[str, ...] = CLASSES) -> None:
    """Write labels in the format that `read_labels` reads."""
    write(path, [to_picture(label, classes) for label in labels])


def to_picture(label: Label, classes: tuple[str, ...] = CLASSES) -> Picture:
    """Return labels of `classes` as a picture with named boxes."""
    found = label.detections
    boxes = tuple(
        Box(classes[int(c)], float(s), *box.astype(np.float64).tolist())
        for c, s, box in zip(found.labels, found.scores, found.boxes, strict=True)
    )
    return Picture(label.source, label.frame, label.width, label.height, boxes, label.at)


def write(path: Path, pictures: Sequence[Picture]) -> None:
    """Write pictures, one a line: scores with four digits, edges with two."""
    path.write_bytes(b"".join(msgspec.json.encode(_line(picture)) + b"\n" for picture in pictures))


def _line(picture: Picture) -> _Line:
    rows = [(box.name, round(box.score, 4), *(round(edge, 2) for edge in box.corners)) for box in picture.boxes]
    return _Line(picture.source, picture.frame, picture.width, picture.height, rows)  # type: ignore[arg-type]
