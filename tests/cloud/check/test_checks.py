from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from culling.common.cli import main
from culling.common.errors import ModelError, StorageError


def settings(folder: Path, **sections: dict[str, object]) -> Path:
    service = {"data_dir": str(folder / "data"), "reserve_bytes": 0, **sections.pop("service", {})}
    path = folder / "cloud.toml"
    path.write_text(tomli_w.dumps({"service": service, **sections}))
    return path


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    code = main(["cloud", "check", "--config", str(path)])
    lines = capsys.readouterr().out.splitlines()
    return code, {line[8:].split(":")[0]: line for line in lines}


def test_each_thing_is_one_line_and_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = check(settings(tmp_path), capsys)
    assert code == 0
    assert list(lines) == [
        "settings",
        "keys",
        "index",
        "frames",
        "teacher",
        "student",
        "classes",
        "room",
        "gpu",
        "clock",
    ]
    assert list((tmp_path / "data").iterdir()) == []


def test_the_exit_code_is_that_of_the_first_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"kind": "bundled", "file": str(tmp_path / "none.safetensors")}
    code, lines = check(settings(tmp_path, teacher=missing, service={"reserve_bytes": 1 << 60}), capsys)
    assert code == ModelError.exit_code
    assert lines["teacher"].startswith("failed  teacher:")
    assert lines["room"].startswith("failed  room:")
    code, _ = check(settings(tmp_path, service={"reserve_bytes": 1 << 60}), capsys)
    assert code == StorageError.exit_code


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"family": "yolo"}, "no family of students is called 'yolo'; there are faster-rcnn-resnet18, yolox"),
        ({"weights": "/none.safetensors"}, "student.weights: there is no file /none.safetensors"),
    ],
)
def test_a_student_that_no_round_could_start_from_is_told_and_the_service_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], student: dict[str, object], said: str
) -> None:
    path = settings(tmp_path, student=student)
    code, lines = check(path, capsys)
    assert code == ModelError.exit_code
    assert said in lines["student"]
    assert main(["cloud", "serve", "--config", str(path)]) == ModelError.exit_code
    assert said in capsys.readouterr().err


def test_a_service_without_its_teacher_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings(tmp_path, teacher={"kind": "bundled", "file": str(tmp_path / "none.safetensors")})
    assert main(["cloud", "serve", "--config", str(path)]) == ModelError.exit_code
    assert "none.safetensors: cannot be read" in capsys.readouterr().err
