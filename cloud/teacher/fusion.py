"""Boxes that several looks at one frame gave, made into one list: weighted box fusion (Solovyev et al., 2021,
arXiv 1910.13302), and plain suppression.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections, iou

SAME = 0.55
"""Boxes of one class that overlap by this IoU are of one object, as in the paper."""

Region = tuple[float, float, float, float]
"""Which part of a frame a look saw, xyxy in its pixels."""


@dataclass(frozen=True)
class Look:
    """What one look found, in the frame's pixels, the part of the frame that it saw, and the labels that it knows."""

    found: Detections
    region: Region
    knows: Collection[int] | None = None


@dataclass
class _Cluster:
    """Boxes that are of one object, at most one of each look."""

    label: int
    looks: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, look: int, box: NDArray[np.float32], score: float) -> None:
        self.looks.append(look)
        self.boxes.append(box)
        self.scores.append(score)

    @property
    def box(self) -> NDArray[np.float32]:
        """The mean box, weighted by score."""
        weights = np.maximum(self.scores, 1e-6)
        return np.asarray(np.average(self.boxes, axis=0, weights=weights), np.float32)


def fuse(looks: Sequence[Look], same: float = SAME, agreement: bool = True) -> Detections:
    """Return one list of boxes for all `looks`, best first.

    A box is the mean of those of one object, weighted by score. With `agreement` its score is the sum of theirs divided
    by the number of looks that know its class and had it in sight: what only one of two saw is half as sure. Without,
    it is the best of theirs: looks of one teacher at other sizes are not independent, and a small object is found by
    some of them only.
    """
    clusters = _clusters(looks, same)
    if not clusters:
        return Detections.empty()
    boxes = np.stack([cluster.box for cluster in clusters])
    scores = np.array(
        [
            sum(cluster.scores) / _in_sight(looks, cluster, box) if agreement else max(cluster.scores)
            for cluster, box in zip(clusters, boxes, strict=True)
        ],
        np.float32,
    )
    order = np.argsort(-scores, kind="stable")
    labels = np.array([cluster.label for cluster in clusters], np.int64)
    return Detections(boxes[order], scores[order], labels[order])


def _clusters(looks: Sequence[Look], same: float) -> list[_Cluster]:
    rows = [
        (float(score), number, int(label), box)
        for number, look in enumerate(looks)
        for box, score, label in zip(look.found.boxes, look.found.scores, look.found.labels, strict=True)
    ]
    clusters: dict[int, list[_Cluster]] = {}
    for score, number, label, box in sorted(rows, key=lambda row: -row[0]):
        known = clusters.setdefault(label, [])
        cluster = _nearest(known, number, box, same)
        if cluster is None:
            known.append(cluster := _Cluster(label))
        cluster.add(number, box, score)
    return [cluster for known in clusters.values() for cluster in known]


def _nearest(clusters: Sequence[_Cluster], look: int, box: NDArray[np.float32], same: float) -> _Cluster | None:
    """Return the cluster that `box` overlaps most and enough, of those without a box of its look."""
    free = [cluster for cluster in clusters if look not in cluster.looks]
    if not free:
        return None
    overlaps = iou(box[None], np.stack([cluster.box for cluster in free]))[0]
    best = int(overlaps.argmax())
    return free[best] if overlaps[best] >= same else None


def _in_sight(looks: Sequence[Look], cluster: _Cluster, box: NDArray[np.float32]) -> int:
    """Return how many looks know the label and had the centre of `box` in sight; those that found it had."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    seen = set(cluster.looks)
    for number, look in enumerate(looks):
        x1, y1, x2, y2 = look.region
        if x1 <= x <= x2 and y1 <= y <= y2 and (look.knows is None or cluster.label in look.knows):
            seen.add(number)
    return len(seen)


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], limit: float) -> NDArray[np.intp]:
    """Return the rows of `boxes` `(N, 4)` that no better one overlaps by more than `limit`, best first."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        kept.append(int(order[0]))
        order = order[1:][iou(boxes[order[:1]], boxes[order[1:]])[0] <= limit]
    return np.asarray(kept, np.intp)


def suppress_classes(found: Detections, limit: float) -> Detections:
    """Return `found`, best first, without the boxes that a better one of their class overlaps by more than `limit`."""
    rows = [
        where[suppress(found.boxes[where], found.scores[where], limit)]
        for label in np.unique(found.labels)
        for [where] in [np.nonzero(found.labels == label)]
    ]
    kept = np.concatenate(rows) if rows else np.zeros(0, np.intp)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
