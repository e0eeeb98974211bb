from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.check.header import BUNDLED, check_detector, check_student_file, read_header
from culling.common.errors import ModelError


def write(path: Path, change: Any = lambda header: None, size: int | None = None) -> Path:
    """Write the bundled teacher's header, changed, before as many zeros as it says."""
    with (BUNDLED / "teacher.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    change(header)
    data = json.dumps(header).encode()
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(data)) + data)
        file.truncate(8 + len(data) + end if size is None else size)
    return path


def test_the_bundled_pair_can_label() -> None:
    assert "teacher's architecture" in check_detector(BUNDLED / "teacher.safetensors")
    assert "student's architecture" in check_detector(BUNDLED / "student.safetensors")


def test_a_narrow_detector_can_label(narrow: Path) -> None:
    assert "student's architecture" in check_detector(narrow / "student.safetensors")


def lacks(header: dict[str, Any]) -> None:
    del header["backbone.body.layer2.0.conv1.weight"]


def more(header: dict[str, Any]) -> None:
    header["mask.weight"] = header["backbone.body.bn1.bias"]


def other_classes(header: dict[str, Any]) -> None:
    header["__metadata__"]["classes"] = "cat,dog"


def other_count(header: dict[str, Any]) -> None:
    header["roi_heads.box_predictor.cls_score.weight"]["shape"][0] = 91


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lacks, "lacks tensor backbone.body.layer2.0.conv1.weight"),
        (more, "has an unknown tensor mask.weight"),
        (other_classes, "finds cat, dog; expected person"),
        (other_count, "is for 90 classes, expected 6"),
    ],
)
def test_a_file_of_another_architecture_is_named_with_what_differs(tmp_path: Path, change: Any, said: str) -> None:
    path = write(tmp_path / "teacher.safetensors", change)
    with pytest.raises(ModelError, match=said) as refused:
        check_detector(path)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    "data", [b"", b"short", b"\xff" * 64, struct.pack("<Q", 4) + b"[1, ", struct.pack("<Q", 2) + b"[]"]
)
def test_what_is_no_safetensors_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not readable as safetensors"):
        read_header(path)


def test_a_file_that_is_missing_or_cut_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        check_detector(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="copy it again"):
        check_detector(write(tmp_path / "cut.safetensors", size=4_000_000))


@pytest.mark.parametrize(("name", "family"), [("student", "faster-rcnn-resnet18"), ("yolox-nano", "yolox")])
def test_a_student_s_file_is_told_from_its_header(name: str, family: str) -> None:
    told = check_student_file(BUNDLED / f"{name}.safetensors", family)
    assert "6 classes" in told


def test_a_student_of_another_family_and_a_teacher_are_refused_and_other_classes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a student of the family yolox, expected faster-rcnn-resnet18"):
        check_student_file(BUNDLED / "yolox-nano.safetensors", "faster-rcnn-resnet18")
    with pytest.raises(ModelError, match="holds a teacher's weights"):
        check_student_file(BUNDLED / "teacher.safetensors", "faster-rcnn-resnet18")

    def dog(header: dict[str, Any]) -> None:
        header["__metadata__"] |= {"kind": "student", "family": "yolox", "classes": "dog"}

    assert "1 classes" in check_student_file(write(tmp_path / "dog.safetensors", dog), "yolox")


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"a\.onnx: "):
        check_student_file(tmp_path / "a.onnx", "yolox")
