"""ONNX detectors of a few nodes, which see what they were made to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def answering(
    outputs: Mapping[str, NDArray[Any]],
    shape: Sequence[int | str] = (1, 3, 64, 96),
    kind: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    sizes: bool = False,
) -> bytes:
    """Return a graph that gives `outputs` for every picture, plus 0 times the mean of what it is shown."""
    nodes = [
        helper.make_node("Cast", ["images"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["shown"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.float32(0), "zero")]
    for name, value in outputs.items():
        constants.append(numpy_helper.from_array(value, f"{name}_value"))
        if value.dtype == np.float32:
            nodes.append(helper.make_node("Add", [f"{name}_value", "nothing"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    given = [helper.make_tensor_value_info("images", kind, shape)]
    if sizes:
        given.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, (1, 2)))
    made = [helper.make_tensor_value_info(name, KINDS[value.dtype], None) for name, value in outputs.items()]
    return serialise(helper.make_graph(nodes, "detector", given, made, constants), metadata)


def echoing(shape: Sequence[int | str] = (1, 3, 64, 96), kind: int = TensorProto.FLOAT) -> bytes:
    """Return a graph with end-to-end boxes whose six numbers are the input's mean, per channel, and its corner's."""
    nodes = [
        helper.make_node("Cast", ["images"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["shown", "axes"], ["means"], keepdims=0),
        helper.make_node("Slice", ["shown", "starts", "ends", "sides"], ["corner"]),
        helper.make_node("Reshape", ["corner", "three"], ["corners"]),
        helper.make_node("Concat", ["means", "corners"], ["six"], axis=1),
        helper.make_node("Unsqueeze", ["six", "one"], ["found"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {
            "axes": [2, 3], "starts": [0, 0], "ends": [1, 1], "sides": [2, 3], "three": [-1, 3], "one": [1],
        }.items()
    ]  # fmt: skip
    given = [helper.make_tensor_value_info("images", kind, shape)]
    made = [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)]
    return serialise(helper.make_graph(nodes, "echo", given, made, constants))


def serialise(graph: Any, metadata: Mapping[str, str] | None = None, domains: Sequence[str] = ("",)) -> bytes:
    """Return `graph` as a file's bytes."""
    opsets = [helper.make_opsetid(domain, 18) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    return bytes(model.SerializeToString())


def changed(data: bytes, change: Any) -> bytes:
    """Return the bytes of a model that `change` was called with."""
    model = onnx.load_model_from_string(data)
    change(model)
    return bytes(model.SerializeToString())
