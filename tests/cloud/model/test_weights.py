from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models.detection import FasterRCNN
from torchvision.ops import box_iou

from culling.cloud.evaluation.evaluate import student as open_student
from culling.cloud.model.export import run_torch
from culling.cloud.model.faster_rcnn.network import STUDENT, build
from culling.cloud.model.weights import (
    load_bundled,
    load_weights,
    save_weights,
    write_index,
)
from culling.cloud.teacher.bundled import Bundled
from culling.cloud.weights.classes import CLASSES
from culling.cloud.weights.index import INDEX, REFERENCE, Format, Kind, read_index
from culling.common.errors import ModelError
from culling.common.video import BUNDLED_CLIP, read_frames
from support.detectors import SMALL_STUDENT, picture


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    torch.manual_seed(0)
    return build(STUDENT).eval()


@pytest.fixture(scope="module")
def saved(model: FasterRCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    save_weights(path, model, "int8")
    return path


def worst(one: FasterRCNN, other: FasterRCNN) -> float:
    """The largest difference of a weight, as a share of the largest weight in its output channel."""
    state = other.state_dict()
    errors = []
    for name, tensor in one.state_dict().items():
        if tensor.dim() >= 2:
            top = tensor.flatten(1).abs().amax(1).clamp(min=1e-9)
            errors.append(float(((tensor - state[name]).flatten(1).abs().amax(1) / top).max()))
    return max(errors)


@pytest.mark.parametrize(("form", "error"), [("fp16", 2**-11), ("int8", 0.5 / 127)])
def test_weights_come_back_within_what_their_format_holds(
    model: FasterRCNN, tmp_path: Path, form: Format, error: float
) -> None:
    save_weights(tmp_path / "w.safetensors", model, form)
    back, classes = load_weights(tmp_path / "w.safetensors")
    assert classes == CLASSES
    assert worst(model, back) <= error * 1.001
    vectors = [name for name, tensor in model.state_dict().items() if tensor.dim() == 1]
    for name in vectors:
        assert torch.equal(back.state_dict()[name], model.state_dict()[name])
    assert not back.training


def test_int8_takes_a_quarter_of_the_room_and_finds_nearly_the_same(model: FasterRCNN, saved: Path) -> None:
    assert saved.stat().st_size < 15.2e6
    frame = picture(96, 128)[None]
    one, other = run_torch(model, frame)[0], run_torch(load_weights(saved)[0], frame)[0]
    np.testing.assert_allclose(one.scores[:5], other.scores[:5], atol=0.02)


def test_int8_stores_one_scale_for_each_output_channel(saved: Path) -> None:
    tensors = load_file(saved)
    name = "roi_heads.box_head.fc6.weight"
    assert tensors[name].dtype == torch.int8
    assert tensors[name + ".scale"].shape == (512,)
    assert tensors[name + ".scale"].dtype == torch.float32


def test_other_classes_travel_with_their_weights(tmp_path: Path) -> None:
    classes = ("shark", "coral")
    save_weights(tmp_path / "w.safetensors", build(STUDENT, classes), "fp16", classes)
    assert load_weights(tmp_path / "w.safetensors")[1] == classes


def test_a_channel_of_zeros_survives_int8(model: FasterRCNN, tmp_path: Path) -> None:
    other = build(STUDENT)
    other.rpn.head.cls_logits.weight.data[1] = 0
    save_weights(tmp_path / "w.safetensors", other, "int8")
    assert (load_weights(tmp_path / "w.safetensors")[0].rpn.head.cls_logits.weight[1] == 0).all()


def test_weights_that_do_not_fit_the_format_are_not_written(tmp_path: Path) -> None:
    other = build(STUDENT)
    other.rpn.head.cls_logits.weight.data[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"rpn\.head\.cls_logits\.weight is not finite as fp16"):
        save_weights(tmp_path / "w.safetensors", other, "fp16")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("length", [0, 7, 5_000, 1_000_000])
def test_a_truncated_file_is_refused_in_one_line(saved: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ModelError, match="not readable as safetensors") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError):
        load_weights(path)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_tensor_is_named(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    del tensors["rpn.head.cls_logits.weight"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"lacks tensor rpn\.head\.cls_logits\.weight"):
        load_weights(tmp_path / "w.safetensors")


def test_a_missing_scale_is_named(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    del tensors["rpn.head.cls_logits.weight.scale"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"rpn\.head\.cls_logits\.weight has no scale"):
        load_weights(tmp_path / "w.safetensors")


def test_narrower_detectors_load_too(tmp_path: Path) -> None:
    narrow = build(SMALL_STUDENT)
    save_weights(tmp_path / "w.safetensors", narrow, "fp16")
    assert worst(narrow, load_weights(tmp_path / "w.safetensors")[0]) < 0.001


def test_a_tensor_of_another_shape_is_named(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    tensors["rpn.head.bbox_pred.bias"] = torch.zeros(16)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"bbox_pred\.bias has shape \(16,\), expected \(12,\): another architecture"):
        load_weights(tmp_path / "w.safetensors")


def test_tensors_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="another architecture"):
        load_weights(tmp_path / "w.safetensors")


def test_a_tensor_without_values_is_refused_before_memory_is_taken_for_its_widths(tmp_path: Path) -> None:
    save_file({"backbone.body.conv1.weight": torch.zeros(10**9, 0)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors: tensor backbone\.body\.conv1\.weight is empty"):
        load_weights(tmp_path / "w.safetensors")


def test_widths_that_no_memory_holds_are_refused(tmp_path: Path) -> None:
    wide = {"backbone.fpn.layer_blocks.0.0.weight": torch.zeros(2**22, 1, dtype=torch.float16)}
    save_file(wide, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors: cannot be built \(.+\): another architecture\?"):
        load_weights(tmp_path / "w.safetensors")


def test_values_that_are_not_numbers_are_refused(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    tensors["backbone.body.bn1.weight"][3] = float("nan")
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"bn1\.weight .* not numbers"):
        load_weights(tmp_path / "w.safetensors")


def test_the_index_lists_every_file_with_its_hash(saved: Path) -> None:
    entries = write_index(saved.parent)
    assert entries == read_index(saved.parent)
    entry = entries["student.safetensors"]
    assert entry.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert (entry.bytes, entry.kind, entry.classes, entry.format) == (saved.stat().st_size, "student", CLASSES, "int8")


def test_bundled_weights_load_when_they_are_what_the_index_names(model: FasterRCNN, saved: Path) -> None:
    write_index(saved.parent)
    back, classes = load_bundled("student", saved.parent)
    assert classes == CLASSES
    assert worst(model, back) < 0.01
    with pytest.raises(ModelError, match="names no teacher"):
        load_bundled("teacher", saved.parent)


def test_bundled_weights_that_were_changed_are_refused(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes())
    (tmp_path / "student.safetensors").write_bytes(data)
    write_index(tmp_path)
    data[-1] ^= 1
    (tmp_path / "student.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=r"student\.safetensors: differs from its sha256"):
        load_bundled("student", tmp_path)


def test_bundled_weights_that_are_gone_are_named(saved: Path, tmp_path: Path) -> None:
    entries = write_index(saved.parent)
    (tmp_path / INDEX).write_bytes(msgspec.json.encode(entries))
    with pytest.raises(ModelError, match=r"student\.safetensors: cannot be read"):
        load_bundled("student", tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"a.safetensors": {"sha256": "00"}}'])
def test_an_index_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(ModelError, match=r"index\.json: not an index of weights"):
        load_bundled("student", tmp_path)


@pytest.mark.parametrize(("kind", "most_bytes"), [("student", 35_000_000), ("teacher", 95_000_000)])
def test_the_pair_that_comes_along_is_whole_and_small_enough_to_carry(kind: Kind, most_bytes: int) -> None:
    (entry,) = [entry for entry in read_index().values() if (entry.kind, entry.family) == (kind, REFERENCE)]
    assert entry.bytes <= most_bytes
    assert entry.classes == CLASSES
    load_bundled(kind)


def test_the_pair_that_comes_along_sees_the_people_of_the_clip_that_does() -> None:
    (frame,) = [image for _, image in read_frames(BUNDLED_CLIP, {400})]
    student, teacher = load_bundled("student")[0], load_bundled("teacher")[0]
    sure = Bundled(teacher).label([frame])[0].above(0.6)
    people = sure.where(sure.labels == CLASSES.index("person"))
    found = open_student(student)(frame)
    found = found.where(found.labels == CLASSES.index("person")).above(0.3)
    met = box_iou(torch.from_numpy(people.boxes), torch.from_numpy(found.boxes)).amax(1) > 0.5
    assert len(people) >= 3
    assert met.float().mean() >= 0.6
