"""What one look costs, in GFLOPs: a multiplication and an addition count as two, as in papers on detectors.

Counted is what convolutions and matrix products take, which is nearly all.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import onnx

GIGA = 1e9


def torch_gflops(run: Callable[[], object]) -> float | None:
    """Return what `run` takes of a torch model, None where it has nothing to count."""
    import torch  # an ONNX teacher needs none, and is opened and checked sooner without
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    total = counter.get_total_flops()
    return total / GIGA if total else None


def onnx_gflops(proto: Any, inputs: dict[str, tuple[int, ...]]) -> float | None:
    """Return what a graph takes for inputs of these shapes, None where a shape depends on what is in them."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        if value.name in inputs:
            shape = value.type.tensor_type.shape
            shape.ClearField("dim")
            shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=side) for side in inputs[value.name])
    try:
        graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    except Exception:  # onnx's errors share no base, and a cost is never worth a failure
        return None
    shapes = _shapes(graph)
    costs = [_node_flops(node, shapes) for node in graph.node if node.op_type in _COUNTED]
    return sum(cost for cost in costs if cost) / GIGA if costs and None not in costs else None


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    return shapes


def _node_flops(node: Any, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Return the operations of one node, None where its shapes are not known."""
    first, second, out = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if first is None or second is None or out is None:
        return None
    return 2 * _COUNTED[node.op_type](first, second, out)


_COUNTED: dict[str, Callable[[tuple[int, ...], tuple[int, ...], tuple[int, ...]], int]] = {
    "Conv": lambda first, weight, out: prod(out) * prod(weight[1:]),
    "ConvTranspose": lambda first, weight, out: prod(first) * prod(weight[1:]),
    "MatMul": lambda first, second, out: prod(out) * first[-1],
    "Gemm": lambda first, second, out: prod(out) * prod(first) // max(out[0], 1),
}
"""Multiplications of each operator by the shapes of its two inputs and its output."""
