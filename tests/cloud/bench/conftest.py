from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.model.weights import save_weights
from culling.common.cli import main
from support import tiny
from support.clips import make_clip
from support.detectors import small_student

KEYS = {"bench", "name", "ratio", "target", "met", "ours", "reference", "comparisons", "stated", "notes", "machine"}

Bench = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    make_clip(folder / "clip.mp4", frames=4)
    (folder / "student.onnx").write_bytes(tiny.student())
    save_weights(folder / "small.safetensors", small_student(), "fp16")
    return folder


@pytest.fixture
def bench(material: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(material)

    def run(*words: str) -> dict[str, Any]:
        assert main(["bench", *words, "--rounds", "1", "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert told.keys() == KEYS
        return told

    return run
