"""A student of a few nodes: valid, fast, and really looking at the picture. No torch.

It lays a 4 × 4 grid over the frame; a cell whose mean brightness is at least `floor` is a detection, its score that
brightness in [0, 1], its box the cell, its label the cell's number modulo the classes. Some of its variants are bad
students, some are hostile files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from culling.cloud.weights.classes import CLASSES
from culling.common.graph import open_graph
from culling.common.scaler import input_size, resize
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.manifest import Golden, Manifest, sign
from culling.common.wire.messages import to_wire

GRID = 4
CELLS = GRID * GRID


def student(
    classes: Sequence[str] = CLASSES,
    floor: float = 0.3,
    shift: int = 0,
    turns: int = 0,
    nan_above: float = 2.0,
    tag: str = "",
    opset: int = 18,
) -> bytes:
    """Return a student as ONNX.

    `floor` 2.0 never finds anything; `shift` moves every label; `turns` matrix products make it slow, about 2 ms each
    100; scores brighter than `nan_above` become NaN; `tag` only makes the bytes differ.
    """
    return proto(classes, floor, shift, turns, nan_above, tag, opset).SerializeToString()


def proto(
    classes: Sequence[str] = CLASSES,
    floor: float = 0.3,
    shift: int = 0,
    turns: int = 0,
    nan_above: float = 2.0,
    tag: str = "",
    opset: int = 18,
) -> Any:
    """Return the same as a ModelProto, to be spoiled."""
    nodes, constants = _grid()
    nodes += _answers()
    constants |= {
        "floor": np.float32(floor),
        "nan_above": np.float32(nan_above),
        "nan": np.float32("nan"),
        "cell_labels": (np.arange(CELLS, dtype=np.int64)[None] + shift) % len(classes),
        "cell_boxes": _cell_boxes(),
    }
    if turns:
        nodes += _delay("brightness", "looked")
        constants |= {"turns": np.int64(turns), "weights": np.full((96, 96), 0.01, np.float32)}
        constants |= {
            "true": np.bool_(True),
            "flat": np.array([1, 1], np.int64),
            "square": np.array([96, 96], np.int64),
        }
    else:
        nodes.append(helper.make_node("Identity", ["brightness"], ["looked"]))
    return _model(nodes, constants, classes, tag, opset)


def forever() -> bytes:
    """Return a student that never answers."""
    return student(turns=2**62)


def hungry() -> bytes:
    """Return a student that wants 256 GB of memory for one frame."""
    model = proto()
    node = helper.make_node("ConstantOfShape", ["hunger"], ["food"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**36], np.int64), "hunger"))
    model.graph.node.extend([node, helper.make_node("ReduceMean", ["food"], ["full"], keepdims=0)])
    _add_to_scores(model, "full")
    return bytes(model.SerializeToString())


def failing() -> bytes:
    """Return a student that loads, and fails on every frame."""
    model = proto()
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 11], np.int64), "impossible"))
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["looked", "impossible"], ["broken"]),
            helper.make_node("ReduceMean", ["broken"], ["rest"], keepdims=0),
        ]
    )
    _add_to_scores(model, "rest")
    return bytes(model.SerializeToString())


def foreign() -> bytes:
    """Return a student with an operator of another domain."""
    model = proto()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node.append(helper.make_node("Gelu", ["looked"], ["unused"], domain="com.microsoft"))
    return bytes(model.SerializeToString())


def external(location: str = "../secret.bin") -> bytes:
    """Return a student whose weights lie in another file."""
    model = proto()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return bytes(model.SerializeToString())


def crowded(nodes: int = 20_001) -> bytes:
    """Return a student with far too many nodes."""
    model = proto()
    model.graph.node.extend(helper.make_node("Identity", ["looked"], [f"copy{i}"]) for i in range(nodes))
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Shipped:
    """A model with its manifest, as the cloud would send them."""

    model: bytes
    manifest: Manifest
    signed: bytes


def ship(
    model: bytes,
    key: Ed25519PrivateKey,
    camera: str = "gate",
    counter: int = 1,
    scale: float = 1.0,
    now: float = 1_000_000.0,
    golden_from: bytes | None = None,
    classes: Sequence[str] = CLASSES,
) -> Shipped:
    """Return `model` signed for `camera`; `golden_from` is the model that made its golden frame, itself if None."""
    manifest = Manifest(
        model_id=f"{camera}-{counter}",
        camera=camera,
        counter=counter,
        sha256=hashlib.sha256(model).hexdigest(),
        size=len(model),
        scale=scale,
        long_side=640,
        classes=tuple(classes),
        parent=None,
        created=now,
        expires=now + 86_400,
        golden=(golden(golden_from or model, scale),),
    )
    return Shipped(model, manifest, sign(manifest, key))


def golden(model: bytes, scale: float = 1.0) -> Golden:
    """Return what `model` finds in a 160 × 128 picture."""
    rgb = picture(160, 128)
    height, width = input_size(160, 128, scale, 640)
    found = open_graph(model, provider="cpu", threads=1).run(resize(rgb, height, width)[None])[0]
    scale_back = np.array([160 / width, 128 / height, 160 / width, 128 / height], np.float32)
    found = type(found)(found.boxes * scale_back, found.scores, found.labels)
    return Golden(jpeg=encode_jpeg(rgb), detections=to_wire(found))


def picture(width: int, height: int, brightest: int = 230) -> NDArray[np.uint8]:
    """Return a picture `(height, width, 3)` whose cells have 16 brightnesses, 0 to `brightest`."""
    levels = np.linspace(0, brightest, CELLS).astype(np.uint8).reshape(GRID, GRID)
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    return np.repeat(levels[rows][:, columns][..., None], 3, axis=2)


@dataclass(frozen=True)
class Still:
    """A frame as the student needs it, from a picture `(H, W, 3)`."""

    rgb: NDArray[np.uint8]

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        return resize(self.rgb, height, width)


def _grid() -> tuple[list[Any], dict[str, NDArray[Any]]]:
    nodes = [
        helper.make_node("Cast", ["frames"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["frames"], ["shape"]),
        helper.make_node("Div", ["shape", "grid"], ["cell_shape"]),
        helper.make_node("Concat", ["shape", "cell_shape", "grid"], ["sizes"], axis=0),
        helper.make_node("Gather", ["sizes", "order"], ["cells_shape"]),
        helper.make_node("Reshape", ["light", "cells_shape"], ["cells"]),
        helper.make_node("ReduceMean", ["cells", "inside"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "row"], ["mean_rows"]),
        helper.make_node("Div", ["mean_rows", "white"], ["brightness"]),
        helper.make_node("Gather", ["cell_shape", "xyxy"], ["cell_pixels"]),
        helper.make_node("Cast", ["cell_pixels"], ["cell_size"], to=TensorProto.FLOAT),
    ]
    constants: dict[str, Any] = {
        "grid": np.array([GRID], np.int64),
        "order": np.array([0, 8, 5, 8, 6, 3], np.int64),
        "inside": np.array([2, 4, 5], np.int64),
        "row": np.array([-1, CELLS], np.int64),
        "white": np.float32(255),
        "xyxy": np.array([2, 1, 2, 1], np.int64),
    }
    return nodes, constants


def _answers() -> list[Any]:
    return [
        helper.make_node("GreaterOrEqual", ["brightness", "floor"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["seen_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["looked", "seen_float"], ["clean_scores"]),
        helper.make_node("Greater", ["brightness", "nan_above"], ["dazzled"]),
        helper.make_node("Where", ["dazzled", "nan", "clean_scores"], ["scores"]),
        helper.make_node("Constant", [], ["nothing"], value_int=-1),
        helper.make_node("Where", ["seen", "cell_labels", "nothing"], ["labels"]),
        helper.make_node("Mul", ["cell_boxes", "cell_size"], ["all_boxes"]),
        helper.make_node("Constant", [], ["last"], value_ints=[2]),
        helper.make_node("Unsqueeze", ["seen_float", "last"], ["seen_column"]),
        helper.make_node("Mul", ["all_boxes", "seen_column"], ["boxes"]),
    ]


def _delay(source: str, result: str) -> list[Any]:
    """Return nodes that copy `source` to `result` after `turns` matrix products."""
    condition = helper.make_tensor_value_info("go_in", TensorProto.BOOL, [])
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    before = helper.make_tensor_value_info("before", TensorProto.FLOAT, [96, 96])
    after = helper.make_tensor_value_info("after", TensorProto.FLOAT, [96, 96])
    go_on = helper.make_tensor_value_info("go_out", TensorProto.BOOL, [])
    inside = [
        helper.make_node("Identity", ["go_in"], ["go_out"]),
        helper.make_node("MatMul", ["before", "weights"], ["product"]),
        helper.make_node("Tanh", ["product"], ["after"]),
    ]
    body = helper.make_graph(inside, "turn", [turn, condition, before], [go_on, after])
    return [
        helper.make_node("ReduceMean", [source], ["mood"], keepdims=0),
        helper.make_node("Reshape", ["mood", "flat"], ["mood_flat"]),
        helper.make_node("Expand", ["mood_flat", "square"], ["mood_square"]),
        helper.make_node("Loop", ["turns", "true", "mood_square"], ["tired"], body=body),
        helper.make_node("ReduceMean", ["tired"], ["sigh"], keepdims=0),
        helper.make_node("Sub", ["sigh", "sigh"], ["silence"]),
        helper.make_node("Add", [source, "silence"], [result]),
    ]


def _cell_boxes() -> NDArray[np.float32]:
    top, left = np.divmod(np.arange(CELLS), GRID)
    return np.stack([left, top, left + 1, top + 1], axis=1).astype(np.float32)[None]


def _add_to_scores(model: Any, addend: str) -> None:
    for node in model.graph.node:
        if "scores" in node.output:
            node.output[0] = "scores_before"
    model.graph.node.append(helper.make_node("Add", ["scores_before", addend], ["scores"]))


def _model(nodes: list[Any], constants: dict[str, Any], classes: Sequence[str], tag: str, opset: int) -> Any:
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", "H", "W", 3])
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["B", CELLS, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", CELLS]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["B", CELLS]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(_in_order(nodes, set(constants) | {"frames"}), "tiny", [frames], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, {"culling.classes": ",".join(classes), "tag": tag})
    return model


def _in_order(nodes: list[Any], known: set[str]) -> list[Any]:
    """Return `nodes` so that each comes after what it reads, as ONNX demands."""
    ordered: list[Any] = []
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        assert ready, [node.op_type for node in waiting]
        known |= {name for node in ready for name in node.output}
        ordered += ready
        waiting = [node for node in waiting if node not in ready]
    return ordered
