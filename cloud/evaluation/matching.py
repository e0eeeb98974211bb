"""Which detections find which labels, and the average precision that follows: COCO's rules, as pycocotools has them.

Each detection, best first, takes the label of its class that it overlaps most, if no better one took it. A doubtful
label is neither a miss nor a hit: a detection that lies on it and matches no true label is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections

IOUS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""COCO's ten overlaps; the first one is that of AP50."""

_RECALLS = np.linspace(0, 1, 101)
_VOC_RECALLS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Compared:
    """One frame: what a model `found`, what is `true` there, and what may or may not be (`doubtful`)."""

    found: Detections
    true: Detections
    doubtful: Detections = field(default_factory=Detections.empty)


@dataclass(frozen=True)
class ClassPrecision:
    """Average precisions of one class in [0, 1]: at IoU 0.5, mean over 0.5 to 0.95, VOC07 11-point; and its labels."""

    ap50: float
    ap50_95: float
    voc07: float
    objects: int


def compare(found: Detections, labels: Detections, true_score: float, doubtful_score: float) -> Compared:
    """Return what a model found beside labels: true from `true_score` on, else doubtful from `doubtful_score` on."""
    sure = labels.scores >= true_score
    return Compared(found, labels.where(sure), labels.where(~sure & (labels.scores >= doubtful_score)))


def class_precision(frames: Sequence[Compared], label: int) -> ClassPrecision | None:
    """Return the precision of one class over `frames`, or None if it has no true label in any frame."""
    objects = sum(int((frame.true.labels == label).sum()) for frame in frames)
    if objects == 0:
        return None
    parts = [match(frame, label) for frame in frames]
    scores = np.concatenate([part[0] for part in parts])
    order = np.argsort(-scores, kind="stable")
    hits, counted = (np.concatenate([part[i] for part in parts], axis=1)[:, order] for i in (1, 2))
    curves = [_curve(hit[count], objects) for hit, count in zip(hits, counted, strict=True)]
    ap = [_interpolate(*curve, _RECALLS) for curve in curves]
    return ClassPrecision(ap[0], float(np.mean(ap)), _interpolate(*curves[0], _VOC_RECALLS), objects)


def frame_ap50(frame: Compared, label: int) -> float | None:
    """Return the `ap50` of `class_precision` on one frame, without the other overlaps."""
    objects = int((frame.true.labels == label).sum())
    if objects == 0:
        return None
    _, hit, counted = match(frame, label, IOUS[:1])
    return _interpolate(*_curve(hit[0][counted[0]], objects), _RECALLS)


def has_false_alarm(frame: Compared, label: int) -> bool:
    """Return whether that class was found, at IoU 0.5, where no label of it is true or doubtful."""
    _, hit, counted = match(frame, label, IOUS[:1])
    return bool((counted[0] & ~hit[0]).any())


def match(
    frame: Compared, label: int, ious: NDArray[np.float64] = IOUS
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a class's scores `(D,)`, best first, and for each of `ious` which detections hit, and which count at all.

    The last two are `(len(ious), D)`; what does not count lies on a doubtful label.
    """
    found, true, doubtful = (part.where(part.labels == label) for part in (frame.found, frame.true, frame.doubtful))
    order = np.argsort(-found.scores, kind="stable")
    sure = len(true)
    overlaps = np.hstack([_iou(found.boxes[order], true.boxes), inside(found.boxes[order], doubtful.boxes)])
    hit, counted = np.zeros((2, len(ious), len(order)), np.bool_)
    free = np.ones((len(ious), overlaps.shape[1]), np.bool_)
    rows = np.arange(len(ious))
    for at, overlap in enumerate(overlaps if overlaps.shape[1] else ()):
        # A true label always goes before a doubtful one; of equals the last is taken, as pycocotools does.
        worth = np.where(free & (overlap >= ious[:, None]), overlap + 2.0 * (np.arange(len(overlap)) < sure), -1.0)
        best = worth.shape[1] - 1 - worth[:, ::-1].argmax(1)
        hit[:, at] = worth[rows, best] >= 2
        counted[:, at] = hit[:, at] | (worth[rows, best] < 0)
        free[rows[hit[:, at]], best[hit[:, at]]] = False
    if not overlaps.shape[1]:
        counted[:] = True
    return found.scores[order], hit, counted


def _curve(hits: NDArray[np.bool_], objects: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision after each detection, the latter made monotonically decreasing."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    return right / objects, np.maximum.accumulate(precision[::-1])[::-1]


def _interpolate(recall: NDArray[np.float64], precision: NDArray[np.float64], at: NDArray[np.float64]) -> float:
    reached = np.searchsorted(recall, at, side="left")
    return float(np.append(precision, 0.0)[reached].mean())


def _iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    shared = _shared(one, other)
    return _ratio(shared, _area(one)[:, None] + _area(other)[None] - shared)


def inside(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return which share of each box in `one` lies in each box of `other`: COCO's overlap with a crowd."""
    shared = _shared(one, other)
    return _ratio(shared, np.broadcast_to(_area(one)[:, None], shared.shape))


def _shared(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = one[:, None].astype(np.float64), other[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(sides.clip(min=0).prod(-1))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(-1))
