"""Random and hand-made detections, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from culling.cloud.evaluation.matching import Compared
from culling.common.frame import Detections


def boxes_at(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections from rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def random_scene(rng: np.random.Generator, classes: int = 3) -> Compared:
    """A frame whose detections are labels moved about, some of them missed, doubled or made up."""

    def scattered(count: int) -> NDArray[np.float32]:
        corner = rng.uniform(0, 200, (count, 2))
        return np.hstack([corner, corner + rng.uniform(10, 60, (count, 2))]).astype(np.float32)

    def detections(boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> Detections:
        return Detections(boxes, rng.uniform(0.05, 1, len(boxes)).round(2).astype(np.float32), labels)

    true, doubtful = scattered(int(rng.integers(0, 8))), scattered(int(rng.integers(0, 4)))
    true_labels, doubtful_labels = (rng.integers(0, classes, len(boxes)) for boxes in (true, doubtful))
    known, known_labels = np.vstack([true, doubtful]), np.concatenate([true_labels, doubtful_labels])
    picked = rng.permutation(np.repeat(np.arange(len(known)), 2))[: int(len(known) * 1.3)]
    near = (known[picked] + rng.normal(0, 4, (len(picked), 4))).astype(np.float32)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 2)
    made_up = scattered(int(rng.integers(0, 4)))
    labels = np.concatenate([known_labels[picked], rng.integers(0, classes, len(made_up))])
    found = detections(np.vstack([near, made_up]), labels)
    return Compared(found, detections(true, true_labels), detections(doubtful, doubtful_labels))


def pycocotools_precision(frames: list[Compared], label: int) -> tuple[float, float]:
    """AP50 and AP50:95 of one class as pycocotools computes them, doubtful labels being crowds."""
    truth, found = [], []
    for image, frame in enumerate(frames, 1):
        for crowd, part in enumerate((frame.true, frame.doubtful)):
            for box in part.boxes[part.labels == label].astype(float):
                xywh = [*box[:2], *(box[2:] - box[:2])]
                area = xywh[2] * xywh[3]
                truth.append({"image_id": image, "bbox": xywh, "area": area, "iscrowd": crowd, "category_id": 1})
        mine = frame.found.where(frame.found.labels == label)
        for box, score in zip(mine.boxes.astype(float), mine.scores.astype(float), strict=True):
            found.append(
                {"image_id": image, "bbox": [*box[:2], *(box[2:] - box[:2])], "score": score, "category_id": 1}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(frames) + 1)],
            "categories": [{"id": 1}],
            "annotations": [{"id": number, **row} for number, row in enumerate(truth, 1)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, 0, 2]
    return float(precision[0].mean()), float(precision.mean())
