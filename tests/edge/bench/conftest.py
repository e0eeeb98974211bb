from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main
from support import tiny
from support.clips import make_clip

KEYS = {"bench", "name", "ratio", "target", "met", "ours", "reference", "comparisons", "stated", "notes", "machine"}

Bench = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    make_clip(folder / "clip.mp4", frames=600)  # a second of a tiny student: no bench plays it longer than it is
    (folder / "student.onnx").write_bytes(tiny.student())
    return folder


@pytest.fixture
def bench(material: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    def run(*words: str) -> dict[str, Any]:
        files = ["--video", str(material / "clip.mp4"), "--model", str(material / "student.onnx")]
        assert main(["bench", *words, *files, "--rounds", "1", "--threads", "1", "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert told.keys() == KEYS
        assert told["machine"]["provider"] in ("cpu", "cuda")
        return told

    return run
