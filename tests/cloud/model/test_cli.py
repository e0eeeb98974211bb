from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.model.weights import save_weights
from culling.common.cli import main
from culling.common.graph import open_graph
from culling.common.video import BUNDLED_CLIP
from support.detectors import small_student


def test_export_in_8_bits_writes_a_smaller_graph_that_opens(tmp_path: Path) -> None:
    save_weights(tmp_path / "student.safetensors", small_student(), "fp16")
    plain, int8 = tmp_path / "student.onnx", tmp_path / "int8.onnx"
    given = ["export", "--weights", str(tmp_path / "student.safetensors"), "--out"]
    assert main([*given, str(plain)]) == 0
    assert main([*given, str(int8), "--int8", str(BUNDLED_CLIP)]) == 0
    assert open_graph(int8.read_bytes(), provider="cpu").info == open_graph(plain.read_bytes(), provider="cpu").info
    assert int8.stat().st_size < 0.5 * plain.stat().st_size


def test_export_writes_a_graph_that_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(tmp_path / "student.safetensors", small_student(), "fp16")
    out = tmp_path / "student.onnx"
    assert main(["export", "--weights", str(tmp_path / "student.safetensors"), "--out", str(out)]) == 0
    assert "agrees with the weights" in capsys.readouterr().out
    assert open_graph(out.read_bytes(), provider="cpu").info.classes[0] == "person"
