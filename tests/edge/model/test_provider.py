from __future__ import annotations

import numpy as np
import onnx
import pytest

from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.edge.model.provider import choose_provider, probe


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def test_without_a_gpu_the_cpu_is_taken_where_it_is_allowed() -> None:
    assert choose_provider(allow_cpu=True) == "cpu"


def test_without_a_gpu_and_leave_to_use_the_cpu_the_setting_is_named() -> None:
    with pytest.raises(ModelError, match=r"agent\.allow_cpu"):
        choose_provider(allow_cpu=False)


def test_the_probe_is_a_student_that_finds_nothing() -> None:
    assert open_graph(probe(), provider="cpu").warm(2, 64, 96) >= 0


def test_the_probe_convolves_pixels_so_that_a_gpu_without_cudnn_is_found_out() -> None:
    nodes = {node.op_type: node for node in onnx.load_model_from_string(probe()).graph.node}

    assert "frames" in nodes["Cast"].input
    assert nodes["Conv"].input[0] in nodes["Transpose"].output
    assert all(node.name for node in nodes.values()), "what has no name is judged by its operator alone"
    [found] = open_graph(probe(), provider="cpu").run(np.full((1, 64, 64, 3), 255, np.uint8))
    assert len(found) == 0
