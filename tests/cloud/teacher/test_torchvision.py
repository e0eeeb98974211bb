from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import get_model_builder

from culling.cloud.model.coco import COCO_91
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.loading import open_part
from culling.cloud.teacher.torchvision import open_torchvision
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError, SettingsError
from support.detectors import picture

SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SSD = "ssdlite320_mobilenet_v3_large"


def made(builder: str, classes: int = 91, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return get_model_builder(builder)(weights=None, weights_backbone=None, num_classes=classes).eval()


def state(builder: str, classes: int = 91) -> dict[str, Tensor]:
    return dict(made(builder, classes).state_dict())


def write(folder: Path, builder: str, form: str, classes: int = 91) -> Path:
    path = folder / f"{builder}_coco-0123abcd.{form}"
    tensors = {name: tensor.clone().contiguous() for name, tensor in state(builder, classes).items()}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("builder", "form"),
    [
        (SMALL, "pth"), (SMALL, "safetensors"), (SSD, "pth"), (SSD, "safetensors"),
        ("retinanet_resnet50_fpn", "safetensors"), ("fcos_resnet50_fpn", "pth"),
    ],
)  # fmt: skip
def test_a_builders_own_weights_come_back_in_both_forms(builder: str, form: str, tmp_path: Path) -> None:
    teacher = open_torchvision(TeacherPart(kind="torchvision", file=write(tmp_path, builder, form)), CLASSES)
    assert teacher.names == COCO_91
    for name, tensor in state(builder).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(teacher.model.state_dict()[name], tensor)


def test_it_labels_frames_with_our_classes(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL, "pth")
    part = TeacherPart(kind="torchvision", builder=SMALL, file=path, short_side=96)
    teacher = open_part(part, CLASSES)
    frame = picture(120, 160)
    model = made(SMALL)
    model.transform.min_size, model.transform.max_size = (96,), round(640 * 96 / 320)
    with torch.inference_mode():
        [wanted] = model([torch.from_numpy(frame).permute(2, 0, 1).float() / 255])
    ours = [label for label in wanted["labels"].tolist() if COCO_91[label] in CLASSES]
    [found] = teacher.label([frame])
    assert teacher.names == CLASSES
    assert [CLASSES[label] for label in found.labels] == [COCO_91[label] for label in ours]
    assert (found.boxes <= [160, 120, 160, 120]).all()
    assert teacher.gflops(120, 160) > 0.01  # type: ignore[operator]


def test_a_teacher_of_ones_own_classes_needs_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL, "pth", classes=3)
    teacher = open_torchvision(TeacherPart(kind="torchvision", builder=SMALL, file=path, names=("cat", "dog")), ())
    assert teacher.names == ("__background__", "cat", "dog")
    with pytest.raises(ModelError, match=r"expected .*: are these .* weights, and is teacher\.names"):
        open_torchvision(TeacherPart(kind="torchvision", builder=SMALL, file=path), ())


def test_weights_of_another_builder_are_named_with_a_tensor(tmp_path: Path) -> None:
    path = write(tmp_path, SSD, "pth")
    with pytest.raises(ModelError, match=r"tensor .*: are these fasterrcnn_mobilenet"):
        open_torchvision(TeacherPart(kind="torchvision", builder=SMALL, file=path), ())


def test_a_builder_that_there_is_not_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no detector 'yolo'; it has .*fasterrcnn_resnet50_fpn_v2"):
        open_torchvision(TeacherPart(kind="torchvision", builder="yolo", file=tmp_path), ())
    with pytest.raises(SettingsError, match=r"teacher\.builder: say which"):
        open_torchvision(TeacherPart(kind="torchvision", file=tmp_path / "weights.pth"), ())


def test_without_a_file_its_own_cache_is_looked_into_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    part = TeacherPart(kind="torchvision", builder=SMALL)
    with pytest.raises(ModelError, match=r"fasterrcnn_mobilenet.*\.pth: .* not in torchvision's cache: put"):
        open_torchvision(part, ())
    (tmp_path / "checkpoints").mkdir()
    name = "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"
    write(tmp_path, SMALL, "pth").rename(tmp_path / "checkpoints" / name)
    assert open_torchvision(part, ()).names == COCO_91


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("read",))


def test_a_pickle_of_anything_but_tensors_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"{SMALL}_coco.pth"
    torch.save({"model": Evil()}, path)
    with pytest.raises(ModelError, match="holds no plain weights"):
        open_torchvision(TeacherPart(kind="torchvision", file=path), ())
    torch.save({"a": 1}, path)
    with pytest.raises(ModelError, match="expected a table of tensors"):
        open_torchvision(TeacherPart(kind="torchvision", file=path), ())
    with pytest.raises(ModelError, match=r"none\.pth: cannot be read"):
        open_torchvision(TeacherPart(kind="torchvision", builder=SMALL, file=tmp_path / "none.pth"), ())
    assert "read" not in capsys.readouterr().out


def test_a_detector_of_one_size_takes_no_other(tmp_path: Path) -> None:
    path = write(tmp_path, SSD, "pth")
    with pytest.raises(SettingsError, match=r"teacher\.short_side: this detector's input is always \(320, 320\)"):
        open_torchvision(TeacherPart(kind="torchvision", file=path, short_side=480), ())


def test_numpy_is_all_that_leaves_it(tmp_path: Path) -> None:
    part = TeacherPart(kind="torchvision", file=write(tmp_path, SMALL, "pth"))
    [found] = open_torchvision(part, ()).label([picture(64, 96)])
    assert isinstance(found.boxes, np.ndarray)
