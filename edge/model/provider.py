"""Which provider the students run on: CUDA if it really works, the CPU only if the settings allow it."""

from __future__ import annotations

import numpy as np
import structlog
from onnx import TensorProto, helper, numpy_helper

from culling.common.errors import ModelError
from culling.common.graph import CLASSES_KEY, Provider, open_graph

log = structlog.get_logger(__name__)


def choose_provider(allow_cpu: bool) -> Provider:
    """Return the provider that works, by running a small graph on it: an installed one need not work.

    Raises `ModelError` when there is no GPU and the CPU is not allowed.
    """
    try:
        open_graph(probe(), provider="cuda").warm(1, 64, 64)
    except ModelError as error:
        if not allow_cpu:
            raise ModelError(
                f"no GPU works and agent.allow_cpu is false; set it, or give --allow-cpu, to run on the CPU: {error}"
            ) from None
        log.warning("cpu_chosen", reason=str(error))
        return "cpu"
    return "cuda"


def probe() -> bytes:
    """Return a student that never finds anything, by a convolution: cuDNN is loaded only by what needs it."""
    outputs = {
        "boxes": (TensorProto.FLOAT, (1, 4)),
        "scores": (TensorProto.FLOAT, (1,)),
        "labels": (TensorProto.INT64, (1,)),
    }
    nodes = [
        helper.make_node("Shape", ["frames"], ["batch"], "batch", end=1),
        helper.make_node("Cast", ["frames"], ["pixels"], "pixels", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["seen"], "seen"),
        helper.make_node("ReduceMax", ["seen"], ["most"], "most", keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["silence"], "silence"),
        helper.make_node("Add", ["quiet", "silence"], ["scores"], "scores"),
    ]
    constants = [
        numpy_helper.from_array(np.full((4, 3, 3, 3), 1 / 27, np.float32), "kernel"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
    ]
    for name, (kind, shape) in outputs.items():
        constants.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_rest"))
        nodes.append(helper.make_node("Concat", ["batch", f"{name}_rest"], [f"{name}_shape"], f"{name}_shape", axis=0))
        value = helper.make_tensor("value", kind, [1], [-1 if name == "labels" else 0])
        made = "quiet" if name == "scores" else name
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [made], made, value=value))
    nodes.append(nodes.pop(6))  # each node stands after what it reads
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", "H", "W", 3])
    found = [helper.make_tensor_value_info(name, kind, ["B", *shape]) for name, (kind, shape) in outputs.items()]
    graph = helper.make_graph(nodes, "probe", [frames], found, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {CLASSES_KEY: "nothing"})
    return bytes(model.SerializeToString())
