from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from culling.cloud.model.base import base_artefact, student_artefact
from culling.cloud.model.weights import save_weights
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.registry import ModelFiles
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.graph import open_graph, see
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.messages import to_wire
from support.detectors import small_student
from support.narrow import install

Settings = Callable[..., CloudSettings]


@pytest.fixture
def settings(tmp_path: Path, narrow: Path) -> Settings:
    def make(**flags: object) -> CloudSettings:
        weights = {"student.weights": str(narrow / "student.safetensors")}
        return load_settings(None, {"service.data_dir": tmp_path / "data", **weights, **flags})

    return make


def test_the_base_is_a_student_that_edges_can_run(settings: Settings, narrow: Path) -> None:
    install(narrow, settings().data_dir)
    files = ModelFiles(settings().data_dir / "models")
    artefact = base_artefact(settings(), files)
    graph = open_graph(files.read(artefact.sha256), provider="cpu", threads=1)
    assert graph.info.classes == artefact.classes == CLASSES
    assert artefact.size == files.path(artefact.sha256, "onnx").stat().st_size
    assert artefact.weights is not None
    assert files.read(artefact.weights, "safetensors")


def test_the_base_says_what_it_finds_on_a_frame_of_the_clip(settings: Settings, narrow: Path) -> None:
    install(narrow, settings().data_dir)
    files = ModelFiles(settings().data_dir / "models")
    usual, small = (base_artefact(settings(**{"student.long_side": side}), files) for side in (640, 128))
    for artefact in (usual, small):
        graph = open_graph(files.read(artefact.sha256), provider="cpu", threads=1)
        (golden,) = artefact.golden
        image = decode_jpeg(golden.jpeg)
        found = see(graph, image, input_size(image.shape[1], image.shape[0], artefact.scale, artefact.long_side))
        assert to_wire(found) == golden.detections
    assert usual.golden != small.golden


def test_a_student_without_a_list_of_classes_is_no_base(settings: Settings, tmp_path: Path) -> None:
    save_weights(tmp_path / "cats.safetensors", small_student(), "fp16", ("cat",) * len(CLASSES))
    chosen = settings(**{"student.weights": str(tmp_path / "cats.safetensors")})
    with pytest.raises(ModelError, match=r"cats\.safetensors: its classes are no list of classes: cat is there twice"):
        base_artefact(chosen, ModelFiles(chosen.data_dir / "models"))


def test_the_long_side_is_that_of_the_settings(settings: Settings, narrow: Path) -> None:
    install(narrow, settings().data_dir)
    files = ModelFiles(settings().data_dir / "models")
    assert base_artefact(settings(**{"student.long_side": 320}), files).long_side == 320


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_weights_that_are_none_are_refused_by_name(settings: Settings, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    chosen = settings(**{"student.weights": str(tmp_path / "bad.safetensors")})
    with pytest.raises(ModelError, match=r"bad\.safetensors"):
        base_artefact(chosen, ModelFiles(chosen.data_dir / "models"))


def test_weights_that_are_not_there_are_refused_by_name(settings: Settings, tmp_path: Path) -> None:
    chosen = settings(**{"student.weights": str(tmp_path / "none.safetensors")})
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        base_artefact(chosen, ModelFiles(chosen.data_dir / "models"))


def test_another_student_of_that_shape_is_not_traced_again_and_the_same_one_not_even_compared(
    settings: Settings, narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = settings().data_dir
    install(narrow, data_dir)
    files, path, said = ModelFiles(data_dir / "models"), tmp_path / "other.safetensors", list[str]()
    save_weights(path, small_student(7), "fp16")
    monkeypatch.setattr("culling.cloud.model.refit.export_refillable", lambda *_: pytest.fail("traced again"))
    made = student_artefact(path, data_dir, files, said.append)
    assert said == ["reading other.safetensors", "comparing the graph with the weights"]
    assert made.sha256 != base_artefact(settings(), files).sha256
    path.rename(renamed := tmp_path / "renamed.safetensors")
    said.clear()
    assert student_artefact(renamed, data_dir, files, said.append) == made
    assert said == ["reading renamed.safetensors"]
    files.path(made.sha256, "onnx").unlink()
    assert student_artefact(renamed, data_dir, files).sha256 == made.sha256, "one that was pruned is made again"
    assert files.keeps(made.sha256)


def test_the_bundled_student_is_not_traced_on_any_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.model.refit.export_refillable", lambda *_: pytest.fail("traced"))
    settings = load_settings(None, {"service.data_dir": tmp_path})
    files, said = ModelFiles(tmp_path / "models"), list[str]()
    artefact = base_artefact(settings, files, said.append)
    assert said == ["comparing the graph with the weights"]
    assert open_graph(files.read(artefact.sha256), provider="cpu", threads=1).info.classes == CLASSES
