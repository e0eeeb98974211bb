from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from culling.common.cli import main
from culling.common.errors import ModelError, SettingsError, StorageError
from support.clips import make_clip
from support.graphs import answering


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip and a teacher's file, which is worked in."""
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, 0] = [24, 16, 56, 40, 0.9, 2]
    (tmp_path / "seer.onnx").write_bytes(answering({"found": raw}))
    make_clip(tmp_path / "yard.mp4", frames=5, width=96, height=64)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_kind_and_a_file_are_all_that_is_needed(yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teacher", "check", "onnx:seer.onnx", "--video", "yard.mp4"]) == 0
    said = capsys.readouterr().out
    assert "onnx on cpu: says 80 names\n  person: person\n" in said
    assert "boxes that it is sure of, on the frames shown: 5 car" in said
    assert "cost: not countable" in said
    assert (yard / "teacher.png").read_bytes().startswith(b"\x89PNG")
    assert not (yard / "unused").exists()


def test_keys_of_the_section_can_be_set_and_all_is_told_as_json(yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [
        "--set",
        'teacher.views=["whole","flip"]',
        "--set",
        'teacher.map={"truck":["car"],"car":["truck"]}',
        "--json",
    ]
    assert main(["teacher", "check", "onnx:seer.onnx", "--video", "yard.mp4", "--out", "sheet.png", *more]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["boxes"].keys() == {"truck"}
    assert told["says"]["car"] == ["truck"]
    assert (yard / "sheet.png").exists()


def test_the_teacher_of_a_settings_file_is_tried(yard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (yard / "cloud.toml").write_text(
        '[service]\ndata_dir = "data"\n[teacher]\nkind = "onnx"\nfile = "seer.onnx"\n[teacher.map]\nbus = ["car"]\n'
        'car = ["bus"]\n'
    )
    assert main(["teacher", "check", "--video", "yard.mp4", "--config", "cloud.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["boxes"] == {"bus": 5}
    assert not (yard / "data").exists()


def test_a_teacher_of_few_classes_will_do_where_only_they_are_wanted(
    yard: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["teacher", "check", "onnx:seer.onnx", "--video", "yard.mp4", "--set", 'teacher.names=["a","person","car"]']
    assert main(few) == ModelError.exit_code
    assert "no name for bicycle, motorcycle, bus, truck" in capsys.readouterr().err.replace("\n", " ")
    assert main([*few, "--set", 'round.interest=["car"]', "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["says"]["bus"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["onxx:seer.onnx"], SettingsError.exit_code, "did you mean onnx?"),
        (["onnx:none.onnx"], ModelError.exit_code, "none.onnx: cannot be read"),
        (["onnx"], SettingsError.exit_code, "teacher.file: name the ONNX file"),
        (["onnx:seer.onnx", "--set", "teacher.wiews=[]"], SettingsError.exit_code, "teacher.wiews is not a setting"),
        (["onnx:seer.onnx", "--out", "no/sheet.png"], StorageError.exit_code, "cannot write no/sheet.png"),
        ([], SettingsError.exit_code, "name a teacher, e.g. onnx:model.onnx"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], code: int, said: str, yard: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["teacher", "check", "--video", "yard.mp4", *arguments]) == code
    assert said in capsys.readouterr().err.replace("\n", " ")
