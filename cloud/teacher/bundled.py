"""The teachers that come with Culling: kind `bundled`, also for another file of its architecture, and `yolox-nano`.

The base of the first, `TorchTeacher`, runs any of torchvision's detectors in batches, on a GPU if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from culling.cloud.model.distil.features import Features
from culling.cloud.model.distil.tutor import Tutor, faster_rcnn_head, passes
from culling.cloud.model.half import half_precision
from culling.cloud.model.weights import load_bundled, load_weights
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.cost import torch_gflops
from culling.cloud.teacher.interface import Picture
from culling.cloud.teacher.layouts import read
from culling.cloud.teacher.onnx import place
from culling.cloud.weights.classes import CLASSES
from culling.cloud.weights.index import file_hash, read_index
from culling.common.errors import SettingsError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.scaler import STRIDE, resize

SHORT_SIDE = 480
"""Pixels of the short side of what the bundled teacher sees."""

COUNTED = (192, 256)
"""Sides of the two square inputs on which a pass is counted, multiples of the coarsest level's stride: all that a pass
does but the work on its proposals, of which there are as many in a larger one, grows with the pixels.
"""

MOST_ENLARGED = 1.5
"""Labels of small frames improve up to this enlargement and worsen beyond it, where it adds only blur."""

NANO_SIDE = 416
"""Pixels of each side of what YOLOX-nano sees: what its authors made it for."""


class TorchTeacher:
    """Labels frames with one of torchvision's detectors, as large as they come, at most `batch` of one size at a time.

    `names` are what its labels mean, from label `first` on.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], batch: int = 4, first: int = 0) -> None:
        self.model = model.to(_device()).eval()
        for part in _heavy_parts(model):
            _halve(part)
        self.names = names
        self.batch = batch
        self._first = first

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(next(self.model.parameters()).device)

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        labels = [Detections.empty()] * len(frames)
        for indices, size in self._batches([frame.shape[:2] for frame in frames]):
            stack = np.stack([resize(frames[index], *size) for index in indices])
            for index, found in zip(indices, self._see(stack), strict=True):
                labels[index] = to_frame(found, size, frames[index].shape[:2])
        return labels

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the `(height, width)` at which the model is given a frame of that size."""
        return height, width

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs."""
        return self._count(*self.input_size(height, width))

    def _count(self, height: int, width: int) -> float | None:
        image = torch.rand(3, height, width, device=self.device)
        return torch_gflops(lambda: self.model([image]))

    @torch.inference_mode()
    def _see(self, frames: Picture) -> Iterator[Detections]:
        """Yield what the model finds in each of `frames` `(B, H, W, 3)`."""
        images = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float() / 255
        for found in self.model(list(images)):
            boxes, scores, labels = (found[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
            yield Detections(boxes, scores, labels - self._first)

    def _batches(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[list[int], tuple[int, int]]]:
        """Yield indices of frames that come to the same input size, and that `(height, width)`."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(shapes):
            groups.setdefault(self.input_size(height, width), []).append(index)
        for size, indices in groups.items():
            for start in range(0, len(indices), self.batch):
                yield indices[start : start + self.batch], size


class Bundled(TorchTeacher):
    """A detector of our own architecture, given frames at `short_side` pixels, enlarged `most` times at most.

    `identity` is the hash of its weights.
    """

    def __init__(
        self,
        model: nn.Module,
        short_side: int = SHORT_SIDE,
        batch: int = 4,
        most: float = MOST_ENLARGED,
        names: tuple[str, ...] = CLASSES,
        identity: str = "",
    ) -> None:
        super().__init__(model, names, batch, first=1)
        self._identity = identity
        self._seen: dict[int, Features] | None = None
        self._short_side = short_side
        self._most = most

    @property
    def tutor(self) -> Tutor:
        """What it offers to students that are distilled from it."""
        return Tutor(self._identity, faster_rcnn_head(self.model, len(self.names)), self._watched)

    def at(self, scale: float) -> Bundled:
        """Return the same teacher at another size of its input."""
        other = object.__new__(Bundled)
        other.__dict__ |= self.__dict__ | {"_short_side": round(self._short_side * scale), "_most": self._most * scale}
        return other

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        if self._seen is None:
            return super().label(frames)
        with passes(self.model.get_submodule("backbone"), self._identity) as kept:
            found = super().label(frames)
        batches = self._batches([frame.shape[:2] for frame in frames])
        for (indices, _), features in zip(batches, kept, strict=True):
            self._seen |= zip(indices, features, strict=True)
        return found

    @contextmanager
    def _watched(self) -> Iterator[dict[int, Features]]:
        self._seen = {}
        try:
            yield self._seen
        finally:
            self._seen = None

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs."""
        size = self.input_size(height, width)
        pixels, (small, large) = size[0] * size[1], (side * side for side in COUNTED)
        if pixels <= large:
            return self._count(*size)
        few, many = (self._count(side, side) for side in COUNTED)
        if few is None or many is None:
            return None
        return many + (many - few) * (pixels - large) / (large - small)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the teacher's input `(height, width)` for a frame: multiples of the stride, nearest to the aspect."""
        scale = min(self._short_side / min(height, width), self._most)
        return tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (height, width))  # type: ignore[return-value]


class YoloxNano:
    """A YOLOX, given each frame in the upper left of a grey square of `side` pixels, `batch` at a time at most.

    What it puts out is read as that of its authors' ONNX file, so that both kinds give the same boxes.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], batch: int = 4, side: int = NANO_SIDE) -> None:
        # Convolutions that look at each channel alone take a third less time of a CPU with channels last.
        self.model = model.to(_device()).to(memory_format=torch.channels_last).eval()
        self.names = names
        self.batch = batch
        self._size = side, side

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(next(self.model.parameters()).device)

    def at(self, scale: float) -> YoloxNano:
        """Return the same teacher at another size of its input."""
        side = max(STRIDE, round(self._size[0] * scale / STRIDE) * STRIDE)
        return YoloxNano(self.model, self.names, self.batch, side)

    @torch.inference_mode()
    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the teacher sees in each frame `(H, W, 3)` RGB, in that order, boxes in the frame's pixels."""
        labels = []
        for start in range(0, len(frames), self.batch):
            shown = frames[start : start + self.batch]
            fed = [place(frame, self._size, "corner") for frame in shown]
            found = self._see(np.stack([picture for picture, _ in fed]))
            for frame, one, (_, placed) in zip(shown, found, fed, strict=True):
                labels.append(placed.to_frame(one, *frame.shape[:2]))
        return labels

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame costs, whatever its size."""
        image = torch.rand(1, 3, *self._size, device=self.device)
        return torch_gflops(lambda: self.model(image))

    def _see(self, pictures: Picture) -> list[Detections]:
        images = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255
        boxes, objects, classes = self.model(images)
        raw = torch.cat([boxes, objects.sigmoid(), classes.sigmoid()], 2).cpu().numpy()
        return read("yolox", {"raw": raw}, self._size, len(self.names))


def open_bundled(part: TeacherPart, classes: tuple[str, ...]) -> Bundled:
    """Return the ResNet-101 that comes with Culling, or the one in `file`. Raises `ModelError` for an unusable file."""
    model, names = load_weights(part.file) if part.file else load_bundled("teacher")
    identity = file_hash(part.file) if part.file else read_index()["teacher.safetensors"].sha256
    return Bundled(model, part.short_side or SHORT_SIDE, part.batch, names=names, identity=identity)


def open_yolox_nano(part: TeacherPart, classes: tuple[str, ...]) -> YoloxNano:
    """Return the YOLOX-nano that comes with Culling, which knows the bundled classes of COCO's.

    Raises `SettingsError` for a `file`, `ModelError` where its own is unusable.
    """
    if part.file:
        raise SettingsError('teacher.file: yolox-nano has its own weights; leave it out, or write kind = "onnx"')
    model, names = load_bundled("student", family="yolox")
    return YoloxNano(model, names, part.batch)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _heavy_parts(model: nn.Module) -> list[nn.Module]:
    """Return the parts of one of torchvision's detectors that take its time and may compute in half precision."""
    names = ("backbone", "rpn.head", "roi_heads.box_head", "head")
    known = dict(model.named_modules())
    return [known[name] for name in names if name in known]


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
