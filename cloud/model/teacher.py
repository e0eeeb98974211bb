"""The teacher: a large detector that labels frames in batches, on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_map
from torchvision.models.detection import FasterRCNN

from culling.cloud.bill.cost import PassCost
from culling.cloud.bill.count import look_cost
from culling.cloud.bill.sizes import MOST_ENLARGED, teacher_size
from culling.cloud.model.detector import half_precision
from culling.cloud.model.weights import load_bundled, load_weights
from culling.cloud.settings import CloudSettings
from culling.common.errors import ModelError
from culling.common.frame import CLASSES, Detections
from culling.common.graph import to_frame
from culling.common.scaler import resize


class Teacher:
    """Labels frames with `model`, each brought to `short_side` pixels, at most `batch` of one size at a time.

    A frame is enlarged at most `most` times.
    """

    def __init__(self, model: FasterRCNN, short_side: int = 480, batch: int = 4, most: float = MOST_ENLARGED) -> None:
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        for part in (model.backbone, model.rpn.head, model.roi_heads.box_head):
            _halve(part)
        self._short_side = short_side
        self._batch = batch
        self._most = most

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        labels = [Detections.empty()] * len(frames)
        for indices, size in self._batches([frame.shape[:2] for frame in frames]):
            stack = np.stack([resize(frames[index], *size) for index in indices])
            for index, found in zip(indices, self._see(stack), strict=True):
                labels[index] = to_frame(found, size, frames[index].shape[:2])
        return labels

    @torch.inference_mode()
    def _see(self, frames: NDArray[np.uint8]) -> Iterator[Detections]:
        """Yield what the model finds in each of `frames` `(B, H, W, 3)`."""
        images = torch.from_numpy(frames).to(next(self.model.parameters()).device).permute(0, 3, 1, 2).float() / 255
        for found in self.model(list(images)):
            boxes, scores, labels = (found[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
            yield Detections(boxes, scores, labels - 1)

    def gflops(self, frames: Sequence[NDArray[np.uint8]]) -> float:
        """Return what it costs to label those frames."""
        return sum(self.each.gflops(self.input_size(*frame.shape[:2])) for frame in frames)

    @cached_property
    def each(self) -> PassCost:
        """What it costs to label a frame, by the size of its input."""
        return look_cost(self.model)

    def _batches(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[list[int], tuple[int, int]]]:
        """Yield indices of frames that come to the same input size, and that `(height, width)`."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(shapes):
            groups.setdefault(self.input_size(height, width), []).append(index)
        for size, indices in groups.items():
            for start in range(0, len(indices), self._batch):
                yield indices[start : start + self._batch], size

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the teacher's input `(height, width)` for a frame: multiples of the stride, nearest to the aspect."""
        return teacher_size(height, width, self._short_side, self._most)


def load_teacher(settings: CloudSettings) -> Teacher:
    """Return the teacher that the settings name. Raises `ModelError` when it cannot be used."""
    weights = settings.teacher.weights
    model, classes = load_bundled("teacher") if weights == "bundled" else load_weights(Path(weights))
    if classes != CLASSES:
        raise ModelError(f"the teacher finds {', '.join(classes)}; expected {', '.join(CLASSES)}")
    return Teacher(model, settings.teacher.short_side, settings.teacher.batch)


def _halve(part: nn.Module) -> None:
    """Make a part of a detector compute in half precision, and return single precision.

    Boxes are still decoded in single precision: in half, they would be off by pixels. The AP of people and cars moved
    by at most .002 for the backbone (83 frames of two cameras), and by at most .002 once more for the heads (165).
    """
    whole = part.forward

    def forward(*inputs: Any) -> Any:
        with half_precision(next(part.parameters()).device):
            return tree_map(lambda answer: answer.float(), whole(*inputs))

    part.forward = forward
