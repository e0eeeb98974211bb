from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from culling.cloud.bench import cli as module
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


def test_ingest_is_held_against_the_smaller_of_socket_and_disk(bench: Bench) -> None:
    told = bench("ingest", "--edges", "3", "--frames", "6", "--size", "2000")
    assert [one["name"] for one in told["comparisons"]] == ["1 edge", "3 edges"]
    disk, one, three = (stated["median"] for stated in told["stated"])
    assert [one["reference"]["median"] for one in told["comparisons"]] == [min(disk, one), min(disk, three)]


def test_the_teacher_is_held_against_its_bare_forward(bench: Bench) -> None:
    told = bench("teacher", "--video", "clip.mp4", "--model", "small.safetensors", "--frames", "2")
    assert told["target"] == {"sense": "at least", "value": 0.9}


def test_training_is_held_against_bare_forward_and_backward(bench: Bench) -> None:
    told = bench("train", "--video", "clip.mp4", "--model", "small.safetensors", "--steps", "2", "--batch", "1")
    assert told["ours"]["unit"] == "images/s"


def test_memory_is_stated_by_a_hundred_edges(bench: Bench) -> None:
    told = bench("memory", "cloud", "--edges", "2", "--frames", "2", "--size", "2000")
    assert [one["what"] for one in told["stated"]] == ["no edge", "2 edges", "each hundred further edges"]


def test_a_folder_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ingest", "--folder", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
