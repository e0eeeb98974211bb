from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from onnx import TensorProto, helper

from culling.cloud.bench import student as module

Bench = Callable[..., dict[str, Any]]


def stock(height: int, width: int, **_: int) -> bytes:
    """Stands in for torchvision's own export, which takes most of a minute."""
    shape = (TensorProto.FLOAT, [3, height, width])
    image, out = (helper.make_tensor_value_info(name, *shape) for name in ("image", "out"))
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["out"])], "stock", [image], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_the_student_is_held_against_both_forms_of_the_stock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "export_stock", stock)
    told = bench("student", "--video", "clip.mp4", "--model", "student.onnx", "--frames", "2")
    assert [one["name"] for one in told["comparisons"]] == ["stock, every default", "stock, size kept"]
    assert "What both reach after the same training" in told["notes"][0]
