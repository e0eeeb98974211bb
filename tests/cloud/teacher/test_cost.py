from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from culling.cloud.teacher.cost import onnx_gflops, torch_gflops
from support.graphs import answering, serialise


def test_a_convolution_costs_two_for_each_product() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert torch_gflops(lambda: conv(torch.zeros(1, 3, 10, 20))) == pytest.approx(2 * 8 * 200 * 27 / 1e9)


def test_what_has_nothing_to_count_has_no_cost() -> None:
    assert torch_gflops(lambda: torch.zeros(3) + 1) is None
    found = {"found": np.zeros((1, 300, 6), np.float32)}
    assert onnx_gflops(onnx.load_model_from_string(answering(found)), {"images": (1, 3, 64, 96)}) is None


def graph(height: int | str) -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "kernel"),
        numpy_helper.from_array(np.zeros((8, 2, 2, 2), np.float32), "wider"),
        numpy_helper.from_array(np.zeros((40, 5), np.float32), "matrix"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "wider"], ["b"], strides=[2, 2]),
        helper.make_node("MatMul", ["b", "matrix"], ["c"]),
    ]
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, height, 20))]
    made = [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)]
    return onnx.load_model_from_string(serialise(helper.make_graph(nodes, "g", given, made, constants)))


def test_a_graph_is_counted_at_the_size_it_is_used_at() -> None:
    conv, wider, matrix = 8 * 200 * 27, 8 * 200 * 8, 2 * 20 * 40 * 5
    assert onnx_gflops(graph("h"), {"images": (1, 3, 10, 20)}) == pytest.approx(2 * (conv + wider + matrix) / 1e9)


def test_a_graph_whose_shapes_are_not_known_has_no_cost() -> None:
    assert onnx_gflops(graph("h"), {}) is None
