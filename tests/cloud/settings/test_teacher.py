from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
import tomli_w

from culling.cloud.settings import TeacherSettings, load_settings, to_toml
from culling.cloud.settings.teacher import KNOWN
from culling.common.errors import SettingsError


def test_an_ensemble_that_names_no_member_is_both_that_come_along(tmp_path: Path) -> None:
    told = {"service.data_dir": str(tmp_path / "data")}
    teacher = load_settings(None, told | {"teacher.short_side": 384, "teacher.batch": 2}).teacher
    assert teacher.kind == "ensemble", "and that is the default"
    assert [(one.kind, one.views) for one in teacher.member] == [
        ("bundled", ()), ("yolox-nano", ("whole", "tiles 2x2"))
    ]  # fmt: skip
    assert {(one.short_side, one.batch) for one in teacher.member} == {(384, 2)}


def test_members_that_are_named_are_all_there_are(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    members = '[[teacher.member]]\nkind = "yolox-nano"\n[[teacher.member]]\nviews = ["flip"]\n'
    path.write_text(f'[service]\ndata_dir = "data"\n[teacher]\nkind = "ensemble"\nshort_side = 384\n{members}')
    first, second = load_settings(path, {}).teacher.member
    assert (first.kind, first.views, second.kind, second.short_side) == ("yolox-nano", (), "bundled", None)


def test_the_two_are_written_out_for_whoever_reads_the_settings(tmp_path: Path) -> None:
    settings = load_settings(None, {"service.data_dir": str(tmp_path / "data")})
    (tmp_path / "child.toml").write_bytes(to_toml(settings))
    assert load_settings(tmp_path / "child.toml", {}).teacher == settings.teacher


def test_a_file_beside_an_ensemble_is_refused_with_where_it_belongs(tmp_path: Path) -> None:
    told = {"service.data_dir": str(tmp_path / "data"), "teacher.kind": "ensemble", "teacher.file": "own.safetensors"}
    with pytest.raises(SettingsError, match=r'own\.safetensors": an ensemble has none; write kind = "bundled"'):
        load_settings(None, told)


def test_no_other_kind_has_members_by_itself() -> None:
    assert TeacherSettings(kind="bundled").member == TeacherSettings(kind="yolox-nano").member == ()


@pytest.mark.parametrize("key", [{"file": "own.safetensors"}, {"views": ["flip"]}, {"map": {"car": ["cart"]}}])
def test_keys_of_one_teacher_without_a_kind_are_of_the_bundled_one(tmp_path: Path, key: dict[str, object]) -> None:
    path = tmp_path / "cloud.toml"
    path.write_bytes(tomli_w.dumps({"service": {"data_dir": "data"}, "teacher": key}).encode())
    teacher = load_settings(path, {}).teacher
    assert (teacher.kind, teacher.member) == ("bundled", ())


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"layout": "yolox"}, 'layout: only kind = "onnx" reads it, not ensemble'),
        ({"kind": "bundled", "pixels": "0-1"}, 'pixels: only kind = "onnx" reads it, not bundled'),
        ({"kind": "onnx", "builder": "ssd"}, 'builder: only kind = "torchvision" reads it, not onnx'),
        ({"kind": "ensemble", "member": [{"fit": "corner"}, {}]}, 'fit: only kind = "onnx" reads it, not bundled'),
        ({"kind": "yolox-nano", "member": [{}, {}]}, 'member: yolox-nano has none; write kind = "ensemble"'),
        ({"min_score": 0.5, "true_score": 0.4}, r"min_score = 0\.5 is above true_score = 0\.4"),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(tmp_path: Path, told: dict[str, object], said: str) -> None:
    path = tmp_path / "cloud.toml"
    path.write_bytes(tomli_w.dumps({"service": {"data_dir": "data"}, "teacher": told}).encode())
    with pytest.raises(SettingsError, match=said):
        load_settings(path, {})


def test_the_kinds_that_come_along_are_those_that_the_package_brings() -> None:
    assert set(KNOWN) == distribution("culling").entry_points.select(group="culling.teachers").names


def test_what_another_packages_kind_reads_is_its_own_matter() -> None:
    assert TeacherSettings(kind="theirs", layout="yolox", builder="own").layout == "yolox"
