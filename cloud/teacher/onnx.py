"""Kind `onnx`: any detector in one ONNX file. What it is given and what it gives is recognised, or told.

    [teacher]
    kind = "onnx"
    file = "yolox_nano.onnx"

Its structure is checked as that of a student at the edge: no data outside of the file, no operators but ONNX's own, no
functions. Names come from the settings, else from the file's metadata, else, by their number, they are COCO's.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from culling.cloud.model.coco import by_position
from culling.cloud.settings import Colours, Fit, Layout, Pixels, TeacherPart
from culling.cloud.teacher.cost import onnx_gflops
from culling.cloud.teacher.interface import Picture
from culling.cloud.teacher.layouts import Outputs, default_names, read, recognise
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections
from culling.common.graph import CLASSES_KEY, check_closed, has_cuda, open_session
from culling.common.scaler import STRIDE, resize

SIDE = 640
"""The input's side, where the graph takes any and its metadata name none."""

PAD = 114
"""The grey of what a picture does not fill, in every YOLO."""

IMAGENET = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))
TYPES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.UINT8: np.uint8,
}
SIZES = ("orig_target_sizes", "orig_sizes", "image_size")
"""Names of a second input that takes the picture's `(width, height)`, as RT-DETR's and D-FINE's own exports have."""


@dataclass(frozen=True)
class Plan:
    """How a graph is fed: its input's name, type and axes, its size (None: any), and how pictures become numbers."""

    name: str
    dtype: Any
    size: tuple[int, int] | None
    free: bool
    batched: bool
    channels_last: bool
    sizes: str | None
    layout: Layout
    colours: Colours
    pixels: Pixels
    fit: Fit
    any_batch: bool


@dataclass(frozen=True)
class Placed:
    """Where a picture lies in the input: its sides there are `ratio` `(x, y)` times its own, shifted by `offset`."""

    ratio: tuple[float, float]
    offset: tuple[int, int]

    def to_frame(self, found: Detections, height: int, width: int) -> Detections:
        """Return `found` in pixels of a frame of that size, cut at its sides; what lies outside of it is left out."""
        boxes = (found.boxes - np.array(self.offset * 2, np.float32)) / np.array(self.ratio * 2, np.float32)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return Detections(np.asarray(boxes, np.float32), np.clip(found.scores, 0, 1), found.labels).where(inside)


class OnnxTeacher:
    """Labels frames with an ONNX graph; see `open_onnx`."""

    def __init__(self, session: Any, proto: Any, plan: Plan, names: tuple[str, ...], batch: int) -> None:
        self._session = session
        self._proto = proto
        self.plan = plan
        self.names = names
        self.batch = batch if plan.any_batch else 1

    @property
    def device(self) -> str:
        """Where it computes."""
        return "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"

    def at(self, scale: float) -> OnnxTeacher:
        """Return the same teacher at another size of its input. Raises `SettingsError` where the graph fixes it."""
        if not self.plan.free:
            raise SettingsError(
                f"teacher.views: this graph's input is always {self.plan.size}, so `scale {scale:g}` is not for it"
            )
        size = self.plan.size or (SIDE, SIDE)
        larger = (_stepped(size[0] * scale), _stepped(size[1] * scale))
        return OnnxTeacher(self._session, self._proto, replace(self.plan, size=larger), self.names, self.batch)

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the graph sees in each frame, in that order, boxes in the frame's pixels."""
        labels = [Detections.empty()] * len(frames)
        for indices, size in self._batches(frames):
            fed = [place(frames[index], size, self.plan.fit) for index in indices]
            outputs = run(self._session, self.plan, np.stack([picture for picture, _ in fed]))
            found = read(self.plan.layout, outputs, size, len(self.names))
            if len(found) != len(fed):
                raise ModelError(f"the model gave boxes of {len(found)} pictures for {len(fed)}: set teacher.batch = 1")
            for index, one, (_, placed) in zip(indices, found, fed, strict=True):
                labels[index] = placed.to_frame(one, *frames[index].shape[:2])
        return labels

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs, None where the graph does not show it."""
        size = self.input_size(height, width)
        shape = (*size, 3) if self.plan.channels_last else (3, *size)
        return onnx_gflops(self._proto, {self.plan.name: (1, *shape) if self.plan.batched else shape})

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the `(height, width)` at which the graph is given a frame of that size."""
        return self.plan.size or (_stepped(height), _stepped(width))

    def _batches(self, frames: Sequence[Picture]) -> Iterator[tuple[list[int], tuple[int, int]]]:
        groups: dict[tuple[int, int], list[int]] = {}
        for index, frame in enumerate(frames):
            groups.setdefault(self.input_size(*frame.shape[:2]), []).append(index)
        for size, indices in groups.items():
            for start in range(0, len(indices), self.batch):
                yield indices[start : start + self.batch], size


def open_onnx(part: TeacherPart, classes: tuple[str, ...]) -> OnnxTeacher:
    """Return the detector in `file`, recognised by what it gives for a blank picture.

    Raises `ModelError` for a file that is refused or of no known layout, `SettingsError` where it lacks a setting.
    """
    if part.file is None:
        raise SettingsError('teacher.file: name the ONNX file, e.g. file = "yolox_nano.onnx"')
    try:
        data = part.file.read_bytes()
        proto = check_closed(data)
        session = open_session(data, "cuda" if _has_gpu() else "cpu")
        plan, names = _plan(part, proto, session)
    except OSError as error:
        raise ModelError(f"{part.file}: cannot be read: {error.strerror}") from None
    except ModelError as error:
        raise ModelError(f"{part.file}: {error}") from None
    return OnnxTeacher(session, proto, plan, names, part.batch)


def _has_gpu() -> bool:
    if not has_cuda():
        return False
    import torch  # seconds, that only a machine which may have a GPU has to spend

    return torch.cuda.is_available()


def run(session: Any, plan: Plan, pictures: NDArray[np.uint8]) -> Outputs:
    """Return what the graph gives for `pictures` `(B, H, W, 3)` RGB, by name. Raises `ModelError` where it fails."""
    fed = {plan.name: _numbers(pictures, plan)}
    if plan.sizes is not None:
        height, width = pictures.shape[1:3]
        fed[plan.sizes] = np.tile(np.array([[width, height]], np.int64), (len(pictures), 1))
    try:
        answers = session.run(None, fed)
    except Exception as error:  # onnxruntime's errors share no base of their own
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"the model failed on an input of shape {fed[plan.name].shape}: {line}") from None
    named = zip((value.name for value in session.get_outputs()), answers, strict=True)
    return {name: value for name, value in named if isinstance(value, np.ndarray)}


def place(frame: Picture, size: tuple[int, int], fit: Fit) -> tuple[Picture, Placed]:
    """Return `frame` in an input of `(height, width)`, and where it lies there."""
    height, width = frame.shape[:2]
    if fit == "stretch":
        return resize(frame, *size), Placed((size[1] / width, size[0] / height), (0, 0))
    ratio = min(size[0] / height, size[1] / width)
    tall, wide = (max(1, min(limit, round(side * ratio))) for side, limit in zip((height, width), size, strict=True))
    left, top = ((size[1] - wide) // 2, (size[0] - tall) // 2) if fit == "centre" else (0, 0)
    canvas = np.full((*size, 3), PAD, np.uint8)
    canvas[top : top + tall, left : left + wide] = resize(frame, tall, wide)
    return canvas, Placed((wide / width, tall / height), (left, top))


def _plan(part: TeacherPart, proto: Any, session: Any) -> tuple[Plan, tuple[str, ...]]:
    """Return how the graph is fed, and its names, from the settings, its metadata, and one blank run."""
    told = _metadata(proto)
    plan = _inputs(proto, part.short_side or told.get("side"))
    size = plan.size or (SIDE, SIDE)
    outputs = run(session, plan, np.full((1, *size, 3), PAD, np.uint8))
    found = recognise(outputs, size) if part.layout is None else None
    layout = part.layout or (found.layout if found else plan.layout)
    names = tuple(part.names) or told.get("names") or (default_names(found) if found else ())
    if not names:
        raise SettingsError("teacher.names: with teacher.layout, list the names of the classes in label order, too")
    if layout == "torchvision":
        several = plan.any_batch and not any(value.shape[1:] == (4,) for value in outputs.values())
        plan = replace(plan, size=None if plan.free else plan.size, any_batch=several)
    return _prepared(part, replace(plan, layout=layout), len(names)), by_position(names)


def _inputs(proto: Any, side: int | None) -> Plan:
    """Return what the graph's inputs are. Raises `ModelError` for one that takes no pictures."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    pictures = [value for value in inputs if value.type.tensor_type.elem_type in TYPES]
    others = [value.name for value in inputs if value not in pictures]
    if len(pictures) != 1 or not set(others) <= set(SIZES) or len(others) > 1:
        raise ModelError(f"its inputs are {[value.name for value in inputs]}, expected one that takes pictures")
    kind = pictures[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if len(dims) not in (3, 4) or 3 not in (dims[-1], dims[-3]):
        raise ModelError(f"its input {pictures[0].name} has shape {dims}, expected (batch, 3, height, width)")
    last = dims[-3] != 3
    height, width = dims[-3:-1] if last else dims[-2:]
    free = height is None or width is None
    chosen = (height or _stepped(side or SIDE), width or _stepped(side or SIDE))
    batched = len(dims) == 4
    return Plan(
        name=pictures[0].name,
        dtype=TYPES[kind.elem_type],
        size=chosen,
        free=free,
        batched=batched,
        channels_last=last,
        sizes=others[0] if others else None,
        layout="torchvision",
        colours="rgb",
        pixels="0-1",
        fit="stretch",
        any_batch=batched and dims[0] is None,
    )


def _prepared(part: TeacherPart, plan: Plan, names: int) -> Plan:
    """Return the plan with colours, range and fit as told, else as the layout's family has them."""
    family: dict[Layout, tuple[Colours, Pixels, Fit]] = {
        "torchvision": ("rgb", "0-1", "stretch"),
        "yolox": ("bgr", "0-255", "corner"),
        "yolov5": ("rgb", "0-1", "centre"),
        "yolov8": ("rgb", "0-1", "centre"),
        "end-to-end": ("rgb", "0-1", "centre"),
        # RT-DETR and D-FINE, which number 80 classes, are not normalised; DETR and RF-DETR, with COCO's numbers, are.
        "detr": ("rgb", "imagenet" if names > 80 else "0-1", "stretch"),
    }
    colours, pixels, fit = family[plan.layout]
    if plan.dtype is np.uint8:
        pixels = "0-255"
    return replace(plan, colours=part.colours or colours, pixels=part.pixels or pixels, fit=part.fit or fit)


def _numbers(pictures: NDArray[np.uint8], plan: Plan) -> NDArray[Any]:
    """Return `pictures` `(B, H, W, 3)` RGB as the graph takes them."""
    seen = pictures[..., ::-1] if plan.colours == "bgr" else pictures
    numbers: NDArray[Any] = seen
    if plan.pixels != "0-255":
        numbers = seen.astype(np.float32) / 255
    if plan.pixels == "imagenet":
        numbers = (numbers - IMAGENET[0]) / IMAGENET[1]
    if not plan.channels_last:
        numbers = numbers.transpose(0, 3, 1, 2)
    numbers = np.ascontiguousarray(numbers, cast(Any, plan.dtype))
    return numbers if plan.batched else numbers[0]


def _metadata(proto: Any) -> dict[str, Any]:
    """Return `names` and the input's `side` where the file's metadata tell them, as ours and Ultralytics' do."""
    held = {entry.key: entry.value for entry in proto.metadata_props}
    told: dict[str, Any] = {}
    if (task := held.get("task", "detect")) != "detect":
        raise ModelError(f"it is made to {task}, by its metadata: export a model that detects")
    if names := held.get(CLASSES_KEY):
        told["names"] = tuple(names.split(","))
    elif (listed := _literal(held.get("names", ""))) and isinstance(listed, dict | list):
        values = [listed[key] for key in sorted(listed, key=int)] if isinstance(listed, dict) else listed
        told["names"] = tuple(str(value) for value in values)
    side = _literal(held.get("imgsz", ""))
    if isinstance(side, list | tuple) and side and all(isinstance(one, int) and one > 0 for one in side):
        told["side"] = max(side)
    return told


def _literal(text: str) -> Any:
    """Return a list or table as JSON or Python writes it, None for any other text."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _stepped(side: float) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)
