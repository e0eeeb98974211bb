from __future__ import annotations

from pathlib import Path

import pytest

from culling.common.cli import main
from culling.common.graph import open_graph
from culling.common.video import BUNDLED_CLIP


def test_export_writes_a_graph_that_opens_and_in_8_bits_a_smaller_one(
    narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = max((narrow / "models").glob("*.onnx")).read_bytes()
    monkeypatch.setattr("culling.cloud.model.base.outlines", lambda: iter([known]))  # or it is traced: half a minute
    monkeypatch.setattr("culling.cloud.model.quantise.CALIBRATED", 4)
    plain, int8 = tmp_path / "student.onnx", tmp_path / "int8.onnx"
    given = ["export", "--weights", str(narrow / "student.safetensors"), "--out"]
    assert main([*given, str(plain)]) == 0
    assert "agrees with the weights" in capsys.readouterr().out
    assert main([*given, str(int8), "--int8", str(BUNDLED_CLIP)]) == 0
    infos = [open_graph(path.read_bytes(), provider="cpu").info for path in (plain, int8)]
    assert infos[0] == infos[1]
    assert infos[0].classes[0] == "person"
    assert int8.stat().st_size < 0.5 * plain.stat().st_size
