from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from culling.cloud.model.coco import COCO_80
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.detectron2 import Detectron2, build_detectron2, open_detectron2
from culling.common.errors import ModelError
from support.detectors import picture
from support.zoo import CLASSES, Reference, Tensors, checkpoint

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return checkpoint()


def write(path: Path, tensors: Tensors, **more: Any) -> Path:
    """Write a checkpoint as the model zoo has it."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody", **more}, protocol=2))
    return path


@pytest.mark.parametrize(
    ("depth", "groups", "c4"), [(50, 1, False), (101, 1, False), (50, 32, False), (50, 1, True)],
    ids=["R50-FPN", "R101-FPN", "X50-FPN", "R50-C4"],
)  # fmt: skip
def test_boxes_are_those_that_detectron2_computes(depth: int, groups: int, c4: bool) -> None:
    tensors = checkpoint(depth, groups, c4)
    frame = picture(*((32, 48) if c4 else (60, 80)), seed=3)  # a C4 runs its last stage on every proposal
    boxes, scores, labels = Reference(tensors).see(frame)
    model = build_detectron2(tensors)
    with torch.inference_mode():
        [found] = model([torch.from_numpy(frame).permute(2, 0, 1).float() / 255])
    assert len(boxes) >= 20
    np.testing.assert_allclose(found["scores"].numpy(), scores, atol=1e-4)
    np.testing.assert_array_equal(found["labels"].numpy() - 1, labels)
    np.testing.assert_allclose(found["boxes"].numpy(), boxes, atol=2e-3)


def test_colours_are_not_mixed_up(tensors: Tensors) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[..., 0] = 255
    found = [Reference(tensors).see(one)[1][:5] for one in (frame, frame[..., ::-1])]
    mine = build_detectron2(tensors)([torch.from_numpy(frame).permute(2, 0, 1).float() / 255])[0]
    np.testing.assert_allclose(mine["scores"].detach().numpy()[:5], found[0], atol=1e-4)
    assert not np.allclose(found[0], found[1], atol=1e-4)


def test_a_pickle_and_what_was_converted_from_it_say_the_same(tensors: Tensors, tmp_path: Path) -> None:
    extra = {"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}
    pkl = write(tmp_path / "model_final.pkl", tensors | extra)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    torch.save({"model": tensors}, tmp_path / "model.pth")
    frame = picture(60, 80)
    answers = []
    for file in (pkl, tmp_path / "model.safetensors", tmp_path / "model.pth"):
        part = TeacherPart(kind="detectron2", file=file, names=NAMES, short_side=96)
        answers.append(open_detectron2(part, ()).label([frame])[0])
    assert len(answers[0]) > 0
    for one in answers[1:]:
        np.testing.assert_array_equal(one.boxes, answers[0].boxes)


def test_frames_are_resized_as_detectron2_does(tensors: Tensors) -> None:
    teacher = Detectron2(build_detectron2(tensors), NAMES, 1)
    assert teacher.input_size(1080, 1920) == (750, 1333)
    assert teacher.input_size(576, 768) == (800, 1067)
    assert teacher.at(0.5).input_size(576, 768) == (400, 533)


def test_its_own_mean_and_deviation_win(tensors: Tensors) -> None:
    own = {"pixel_mean": torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), "pixel_std": torch.full((3, 1, 1), 51.0)}
    transform: Any = build_detectron2(tensors | own).transform
    assert transform.image_mean == pytest.approx([3 / 255, 2 / 255, 1 / 255])
    assert transform.image_std == pytest.approx([0.2] * 3)


def test_what_is_of_another_layout_is_named(tensors: Tensors, tmp_path: Path) -> None:
    less = {name: tensor for name, tensor in tensors.items() if name != "roi_heads.box_head.fc2.bias"}
    part = TeacherPart(kind="detectron2", file=write(tmp_path / "less.pkl", less))
    with pytest.raises(ModelError, match=r"less\.pkl: lacks tensor roi_heads\.box_head\.fc7\.bias"):
        open_detectron2(part, ())
    part = TeacherPart(kind="detectron2", file=write(tmp_path / "more.pkl", tensors | {"mask.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"has an unknown tensor mask\.weight"):
        open_detectron2(part, ())
    part = TeacherPart(kind="detectron2", file=write(tmp_path / "none.pkl", {"a": torch.zeros(1)}))
    with pytest.raises(ModelError, match="is it a Faster R-CNN of detectron2's model zoo"):
        open_detectron2(part, ())


def test_classes_that_are_not_cocos_must_be_named(tensors: Tensors, tmp_path: Path) -> None:
    part = TeacherPart(kind="detectron2", file=write(tmp_path / "own.pkl", tensors))
    with pytest.raises(ModelError, match=f"finds {CLASSES} classes; list their names in order as teacher.names"):
        open_detectron2(part, ())
    assert len(COCO_80) != CLASSES


def test_without_a_file_it_says_which_one_is_meant() -> None:
    with pytest.raises(ModelError, match=r"teacher\.file: name the checkpoint"):
        open_detectron2(TeacherPart(kind="detectron2"), ())
