"""What travels between stages: one decoded frame, and the detections a model found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ClassName = Literal["person", "bicycle", "car", "motorcycle", "bus", "truck"]
CLASSES: tuple[str, ...] = get_args(ClassName)
"""The classes of the bundled student and teacher, in label order."""


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
        """Return no detections at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def above(self, score: float) -> Detections:
        """Return the detections whose score is at least `score`."""
        return self.where(self.scores >= score)

    def where(self, mask: NDArray[np.bool_]) -> Detections:
        """Return the detections selected by the boolean `mask` of shape `(N,)`."""
        return Detections(self.boxes[mask], self.scores[mask], self.labels[mask])
