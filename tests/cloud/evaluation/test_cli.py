from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.annotations.lines import Label, write_labels
from culling.common.cli import main
from culling.common.errors import CameraError, InputError, ModelError
from culling.common.frame import Detections
from support import tiny
from support.clips import make_clip

WIDTH, HEIGHT = 160, 128


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a clip, labels for it, and a student."""
    make_clip(tmp_path / "clip.mp4", frames=6, width=WIDTH, height=HEIGHT)
    box = np.array([[10, 10, 60, 60]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))
    write_labels(tmp_path / "labels.jsonl", [Label("clip.mp4", n, WIDTH, HEIGHT, found, "") for n in range(6)])
    (tmp_path / "student.onnx").write_bytes(tiny.student())
    return tmp_path


def evaluate(site: Path, **changes: str) -> list[str]:
    given = {"model": "student.onnx", "video": "clip.mp4", "labels": "labels.jsonl"} | changes
    return ["evaluate", *(word for name, file in given.items() for word in (f"--{name}", str(site / file)))]


def test_evaluate_prints_stable_keys_as_json(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*evaluate(site), "--json", "--from", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"ap50", "ap50_95", "voc07", "per_class"} <= result.keys()
    assert result["frames"] == 3
    assert result["per_class"]["person"]["objects"] == 3


def test_evaluate_prints_a_table_for_people(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(evaluate(site)) == 0
    out = capsys.readouterr().out
    assert "student.onnx on 6 labelled frames of clip.mp4" in out
    assert "person" in out
    assert "mean" in out


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "none.onnx"}, ModelError.exit_code),
        ({"model": "labels.jsonl"}, ModelError.exit_code),
        ({"video": "none.mp4"}, CameraError.exit_code),
        ({"video": "labels.jsonl"}, CameraError.exit_code),
        ({"labels": "none.jsonl"}, InputError.exit_code),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    site: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], code: int
) -> None:
    assert main(evaluate(site, **changes)) == code
    error = capsys.readouterr().err
    assert next(iter(changes.values())) in error
    assert error.count("\n") == 1


def test_a_label_of_an_unknown_class_is_named_with_its_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = site / "labels.jsonl"
    labels.write_text(labels.read_text().replace("person", "giraffe", 1))
    assert main(evaluate(site)) == InputError.exit_code
    assert "labels.jsonl:1: unknown class 'giraffe'" in capsys.readouterr().err
