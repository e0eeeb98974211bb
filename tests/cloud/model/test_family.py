from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

from culling.cloud.model.family import STUDENTS, families, family_named, family_of
from culling.cloud.model.weights import load_bundled, load_student, load_weights, save_weights
from culling.cloud.model.yolox.network import NANO, TINY, Yolox, YoloxSpec
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from support.detectors import small_student


def test_both_families_are_found_by_name_and_by_their_models() -> None:
    assert set(families()) >= {"faster-rcnn-resnet18", "yolox"}
    assert family_of(small_student()).name == "faster-rcnn-resnet18"
    assert family_of(Yolox(NANO, 6)).name == "yolox"


def test_a_name_that_is_none_is_answered_with_those_that_are() -> None:
    with pytest.raises(ModelError, match="'yolo'; there are faster-rcnn-resnet18, yolox"):
        family_named("yolo")


def test_an_entry_and_its_family_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("yolo", "culling.cloud.model.yolox.family:YOLOX", STUDENTS)
    monkeypatch.setattr("culling.cloud.model.family.entry_points", lambda group: [entry])
    with pytest.raises(ModelError, match=r"the entry 'yolo' of .* is a family called 'yolox': give both one name"):
        families.__wrapped__()


def test_a_model_of_no_family_is_refused() -> None:
    with pytest.raises(ModelError, match="Linear belongs to no family"):
        family_of(nn.Linear(1, 1))


@pytest.mark.parametrize("spec", [NANO, TINY, YoloxSpec(width=8, depth=2, depthwise=True)])
def test_a_weights_file_tells_family_and_size(spec: YoloxSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Yolox(spec, 2).eval()
    save_weights(tmp_path / "w.safetensors", model, "fp16", ("shark", "coral"))
    back, classes = load_weights(tmp_path / "w.safetensors")
    assert isinstance(back, Yolox)
    assert (back.spec, back.classes, classes) == (spec, 2, ("shark", "coral"))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(model(images), back(images), strict=True):
            torch.testing.assert_close(one, other, atol=0.05, rtol=0.05)


def test_a_student_of_another_family_than_the_wanted_one_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Yolox(NANO, 6), "fp16")
    load_student(tmp_path / "w.safetensors", "yolox")
    with pytest.raises(ModelError, match=r"is a student of the family yolox, expected faster-rcnn-resnet18"):
        load_student(tmp_path / "w.safetensors", "faster-rcnn-resnet18")


def test_only_a_family_that_reads_onnx_starts_from_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="start from safetensors, not from ONNX"):
        load_student(tmp_path / "w.onnx", "faster-rcnn-resnet18")


@pytest.mark.parametrize("family", ["faster-rcnn-resnet18", "yolox"])
def test_every_family_comes_with_a_student(family: str) -> None:
    model, classes = load_bundled("student", family=family)
    assert family_of(model).name == family
    assert classes == CLASSES


@pytest.mark.parametrize("family", ["faster-rcnn-resnet18", "yolox"])
def test_freezing_stages_leaves_the_rest_to_learn(family: str) -> None:
    model, _ = load_bundled("student", family=family)
    learning = []
    for stages in range(5):
        family_of(model).freeze(model, stages)
        learning.append(sum(parameter.requires_grad for parameter in model.parameters()))
    assert learning == sorted(learning, reverse=True)
    assert len(set(learning)) == 5
    assert learning[-1] > 0


def test_an_edge_times_every_family_that_comes_with_culling() -> None:
    from culling.edge.model.families import OUTLINES

    assert OUTLINES.keys() == families().keys()
