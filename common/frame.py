"""What a model finds in one frame, as it travels between stages: detections, their classes, how far boxes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """The boxes of one frame, best score first.

    `boxes` is `(N, 4)` float32, xyxy in pixels of the full frame; `scores` is `(N,)` float32 in [0, 1];
    `labels` is `(N,)` int64, 0-based indices into the model's classes.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Return an instance without any detection."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def above(self, score: float) -> Detections:
        """Return the detections whose score is at least `score`."""
        return self.where(self.scores >= score)

    def where(self, mask: NDArray[np.bool_]) -> Detections:
        """Return the detections selected by the boolean `mask` of shape `(N,)`."""
        return Detections(self.boxes[mask], self.scores[mask], self.labels[mask])

    def among(self, own: Sequence[str], wanted: Sequence[str]) -> Detections:
        """Return the detections, whose labels are of the class list `own`, by the list `wanted`.

        What is no class of `wanted` is left out; so is a label that `own` has no name for.
        """
        known = (self.labels >= 0) & (self.labels < len(own))
        if tuple(own) == tuple(wanted) and known.all():
            return self
        places = {name: at for at, name in enumerate(wanted)}
        table = np.array([places.get(name, -1) for name in own] or [-1], np.int64)
        labels = np.where(known, table[np.where(known, self.labels, 0)], -1)
        return Detections(self.boxes, self.scores, labels).where(labels >= 0)


def iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU `(N, M)` of boxes `(N, 4)` and `(M, 4)`; 0 where both are empty."""
    shared = _overlap(one, other, 0) * _overlap(one, other, 1)
    area, others_area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (one, other))
    union = area[:, None] + others_area[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def _overlap(one: NDArray[np.float32], other: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    # An axis at a time: numpy is slow over arrays whose last dimension is 2.
    ends = np.minimum(one[:, None, axis + 2], other[None, :, axis + 2])
    return np.asarray(np.maximum(ends - np.maximum(one[:, None, axis], other[None, :, axis]), 0.0))
