from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.cloud.check.__main__ import main
from culling.cloud.check.checks import check_teacher
from culling.cloud.settings import CloudSettings, load_settings
from culling.common.errors import ModelError, SettingsError
from support.graphs import answering


def settings(folder: Path, **teacher: object) -> CloudSettings:
    chosen = {f"teacher.{key}": value for key, value in teacher.items()}
    return load_settings(None, {"service.data_dir": str(folder / "data"), **chosen})


def test_a_teacher_of_another_kind_is_opened_by_the_loader_itself(tmp_path: Path) -> None:
    path = tmp_path / "seer.onnx"
    path.write_bytes(answering({"found": np.zeros((1, 300, 6), np.float32)}))
    assert check_teacher(settings(tmp_path, kind="onnx", file=str(path))) == "onnx seer.onnx, on cpu, 6 classes"


def test_why_it_cannot_be_opened_is_told_with_its_own_code(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read: No such file"):
        check_teacher(settings(tmp_path, kind="onnx", file=str(tmp_path / "none.onnx")))
    with pytest.raises(SettingsError, match="no installed package brings a teacher 'nobodys'"):
        check_teacher(settings(tmp_path, kind="nobodys"))


def test_a_variable_does_not_beat_what_the_service_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seer.onnx"
    path.write_bytes(answering({"found": np.zeros((1, 300, 6), np.float32)}))
    monkeypatch.setenv("CULLING_TEACHER__KIND", "nobodys")
    assert check_teacher(settings(tmp_path, kind="onnx", file=str(path))).startswith("onnx seer.onnx")


def test_what_comes_with_culling_is_judged_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.check.checks.try_teacher", lambda settings: "opened")
    bundled = "teacher.safetensors, a teacher's architecture, 6 classes"
    nano = "yolox-nano.safetensors, a yolox of 226 tensors, 6 classes"
    assert check_teacher(settings(tmp_path)) == f"{bundled} and {nano}"
    assert check_teacher(settings(tmp_path, kind="bundled")) == bundled
    assert check_teacher(settings(tmp_path, kind="yolox-nano")) == nano
    for other in (
        {"kind": "yolox-nano", "file": "own.safetensors"},
        {"kind": "ensemble", "map": {"car": ["bus"]}},
        {"kind": "ensemble", "views": ["scale 1.5"]},
        {"kind": "ensemble", "member": [{"kind": "bundled"}]},
        {"kind": "ensemble", "member": [{"kind": "bundled"}, {"kind": "onnx", "file": "car.onnx"}]},
    ):
        assert check_teacher(settings(tmp_path, **other)) == "opened", other


def test_a_child_says_what_the_teacher_is_or_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text('[service]\ndata_dir = "data"\n[teacher]\nkind = "onnx"\nfile = "car.onnx"\n')
    assert main([str(path)]) == ModelError.exit_code
    assert "car.onnx: cannot be read" in capsys.readouterr().err
    (tmp_path / "car.onnx").write_bytes(answering({"found": np.zeros((1, 300, 6), np.float32)}))
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "onnx car.onnx, on cpu, 6 classes\n"


def test_a_pair_that_cannot_distil_is_refused_before_the_service_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cloud.toml"
    start = '[service]\ndata_dir = "data"\n[round]\ndistil = true\n'
    path.write_text(f'{start}[teacher]\nkind = "yolox-nano"\n')
    assert main([str(path)]) == ModelError.exit_code
    assert "round.distil: the teacher yolox-nano has no features to learn from" in capsys.readouterr().err
    path.write_text(f'{start}[student]\nfamily = "yolox"\n')
    assert main([str(path)]) == ModelError.exit_code
    assert "round.distil: students of the family yolox cannot be distilled" in capsys.readouterr().err
    path.write_text(start)
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.startswith("ensemble, on ")


def test_where_rounds_distil_the_teacher_itself_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.check.checks.try_teacher", lambda settings: "opened")
    chosen = load_settings(None, {"service.data_dir": str(tmp_path / "data"), "round.distil": True})
    assert check_teacher(chosen) == "opened"
