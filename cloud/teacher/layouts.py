"""What the outputs of an ONNX detector mean: the layouts there are, how one is recognised, and how each is read.

    torchvision   boxes (N, 4) xyxy, labels (N,), scores (N,); also with a batch in front, and as our own students
    yolox         (B, A, 5 + C): offsets and logarithms per cell of strides 8, 16, 32; objectness, classes
    yolov5        (B, 3 A, 5 + C): centre and size in pixels, objectness, classes (YOLOv5, YOLOv7)
    yolov8        (B, 4 + C, A): centre and size in pixels, classes (YOLOv8, YOLOv9, YOLO11)
    end-to-end    (B, N, 6): xyxy in pixels, score, class (YOLOv10, YOLO26)
    detr          boxes (B, Q, 4) centre and size in shares of the input, logits (B, Q, C) or with one more for nothing

Pure: arrays in, boxes out, in pixels of the graph's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.model.coco import COCO_80, COCO_91
from culling.cloud.settings import Layout
from culling.cloud.teacher.fusion import suppress_classes
from culling.common.errors import ModelError
from culling.common.frame import Detections

FLOOR = 0.02
"""Boxes below this score are not looked at: raw outputs hold thousands."""

OVERLAP = 0.65
"""Raw outputs hold many boxes of one object: of two that overlap more, the better one stays, as YOLOX has it."""

MOST_QUERIES = 1000
"""An end-to-end graph gives at most so many boxes; a raw one has more cells than that from 192 pixels on."""

Array = NDArray[Any]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Recognised:
    """A layout, and how many classes its outputs tell apart; 0 where they do not show it."""

    layout: Layout
    classes: int


def recognise(outputs: Outputs, size: tuple[int, int]) -> Recognised:
    """Return the layout of what a graph gave for an input of `(height, width)`.

    Raises `ModelError`, which says what the shapes are and what to do, where none fits.
    """
    floats = [value for value in outputs.values() if value.dtype.kind == "f" and value.ndim in (1, 2, 3)]
    whole = [value for value in outputs.values() if value.dtype.kind in "iu" and value.ndim in (1, 2)]
    if whole and any(value.shape[-1:] == (4,) for value in floats):
        return Recognised("torchvision", 0)
    threes = [value for value in floats if value.ndim == 3]
    boxes = [value for value in threes if value.shape[2] == 4]
    if len(threes) == 2 and boxes:
        logits = next(value for value in threes if value is not boxes[0])
        if logits.shape[1] == boxes[0].shape[1]:
            return Recognised("detr", logits.shape[2])
    if len(threes) == 1 and (found := _single(threes[0].shape, size)):
        return found
    shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in outputs.items())
    raise ModelError(
        f"the outputs {shapes} are of no layout that is known here: set teacher.layout if one of them fits after all, "
        "or export the model with raw or end-to-end boxes"
    )


def _single(shape: tuple[int, ...], size: tuple[int, int]) -> Recognised | None:
    """Return what one output of that shape is."""
    _, rows, columns = shape
    for cells in _cell_counts(size):
        if rows == cells and columns > 5:
            return Recognised("yolox", columns - 5)
        if rows == 3 * cells and columns > 5:
            return Recognised("yolov5", columns - 5)
        if columns == cells and rows > 4:
            return Recognised("yolov8", rows - 4)
    return Recognised("end-to-end", 0) if columns == 6 and rows <= MOST_QUERIES else None


def _cell_counts(size: tuple[int, int]) -> list[int]:
    """Return the cells of all strides, without and with a fourth one."""
    return [sum((size[0] // stride) * (size[1] // stride) for stride in strides) for strides in _STRIDES]


_STRIDES = ((8, 16, 32), (8, 16, 32, 64))


def default_names(found: Recognised) -> tuple[str, ...]:
    """Return COCO's names where the number of classes says that they are meant.

    Raises `ModelError` where it does not: the names must be told.
    """
    if found.layout == "torchvision":
        return COCO_91
    if found.classes in (0, len(COCO_80)) or (found.layout == "detr" and found.classes == len(COCO_80) + 1):
        return COCO_80
    if found.layout == "detr" and found.classes in (len(COCO_91), len(COCO_91) + 1):
        return COCO_91
    raise ModelError(f"the model tells {found.classes} classes apart and names none: list them as teacher.names")


def read(layout: Layout, outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    """Return the boxes of each picture in pixels of the input `(height, width)`, best first.

    `names` is how many classes there are. Raises `ModelError` for outputs that are of another layout, or not numbers.
    """
    try:
        found = _READERS[layout](outputs, size, names)
    except (ValueError, IndexError, StopIteration) as error:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
        raise ModelError(
            f"teacher.layout: the outputs {shapes} are not {layout}: {error or 'one is missing'}"
        ) from None
    for one in found:
        if not (np.isfinite(one.boxes).all() and np.isfinite(one.scores).all()):
            raise ModelError("the model gave boxes or scores that are not numbers")
        if len(one) and one.labels.max() >= names:
            raise ModelError(f"the model gave label {one.labels.max()}, but {names} names are known: see teacher.names")
    return found


def _torchvision(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    boxes = next(value for value in outputs.values() if value.dtype.kind == "f" and value.shape[-1:] == (4,))
    labels = next(value for value in outputs.values() if value.dtype.kind in "iu")
    scores = next(value for value in outputs.values() if value.dtype.kind == "f" and value.shape == labels.shape)
    if boxes.ndim == 2:
        boxes, labels, scores = boxes[None], labels[None], scores[None]
    rows = zip(boxes, scores, labels, strict=True)
    return [_kept(box, score, label.astype(np.int64)) for box, score, label in rows]


def _yolox(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    raw = _only(outputs)
    strides = next(s for s, cells in zip(_STRIDES, _cell_counts(size), strict=True) if cells == raw.shape[1])
    grid, scale = _grid(size, strides)
    centre, sides = (raw[..., :2] + grid) * scale, np.exp(np.minimum(raw[..., 2:4], 20)) * scale
    return _many(centre, sides, raw[..., 4:5] * raw[..., 5:])


def _yolov5(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    raw = _only(outputs)
    return _many(raw[..., :2], raw[..., 2:4], raw[..., 4:5] * raw[..., 5:])


def _yolov8(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    raw = _only(outputs).transpose(0, 2, 1)
    return _many(raw[..., :2], raw[..., 2:4], raw[..., 4:])


def _end_to_end(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    return [_kept(rows[:, :4], rows[:, 4], rows[:, 5].round().astype(np.int64)) for rows in _only(outputs)]


def _detr(outputs: Outputs, size: tuple[int, int], names: int) -> list[Detections]:
    threes = [value.astype(np.float32) for value in outputs.values() if value.dtype.kind == "f" and value.ndim == 3]
    boxes = next(value for value in threes if value.shape[2] == 4)
    logits = next(value for value in threes if value is not boxes)
    if logits.shape[2] == names + 1:  # the last one is for nothing, and all of them share 1
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        scores = (shares / shares.sum(-1, keepdims=True))[..., :-1]
    elif logits.shape[2] == names:
        scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    else:
        raise ValueError(f"{logits.shape[2]} logits are for {logits.shape[2]} classes or one less, {names} are named")
    sides = np.array([size[1], size[0]], np.float32)
    found = []
    for box, score in zip(boxes, scores, strict=True):
        labels = score.argmax(1)
        found.append(_kept(_corners(box[:, :2] * sides, box[:, 2:] * sides), score.max(1), labels))
    return found


_READERS = {
    "torchvision": _torchvision,
    "yolox": _yolox,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "end-to-end": _end_to_end,
    "detr": _detr,
}


def _only(outputs: Outputs) -> NDArray[np.float32]:
    """Return the one output that holds boxes; others, such as those inside, have more dimensions."""
    [raw] = [value for value in outputs.values() if value.dtype.kind == "f" and value.ndim == 3]
    return np.asarray(raw, np.float32)


def _grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return column and row `(A, 2)`, and stride `(A, 1)`, of every cell."""
    points, scales = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        points.append(np.stack([columns.ravel(), rows.ravel()], 1))
        scales.append(np.full((rows.size, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(scales).astype(np.float32)


def _many(centre: Array, sides: Array, scores: Array) -> list[Detections]:
    """Return the boxes of each picture, each of every class that it may be, suppressed class by class."""
    found = []
    for place, extent, chances in zip(centre, sides, scores, strict=True):
        rows, labels = np.nonzero(chances >= FLOOR)
        one = _kept(_corners(place[rows], extent[rows]), chances[rows, labels], labels)
        found.append(suppress_classes(one, OVERLAP))
    return found


def _corners(centre: Array, sides: Array) -> Array:
    return np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)


def _kept(boxes: Array, scores: Array, labels: Array) -> Detections:
    """Return what is above the floor and no padding, best first."""
    found = Detections(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64))
    found = found.where((found.labels >= 0) & ~(found.scores < FLOOR))
    order = np.argsort(-found.scores, kind="stable")
    return Detections(found.boxes[order], found.scores[order], found.labels[order])
