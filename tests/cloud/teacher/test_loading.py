from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from culling.cloud.model.weights import save_weights
from culling.cloud.settings import TeacherPart, TeacherSettings, load_settings
from culling.cloud.teacher.ensemble import Ensemble
from culling.cloud.teacher.loading import Teachers, identity, load_teacher, load_teachers
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections
from support.detectors import picture, small_student


def cats(folder: Path) -> Path:
    """Write a detector of no class of ours."""
    names = ("cat", "cart", "person", "bicyle", "bus", "truk")
    save_weights(folder / "cats.safetensors", small_student(), "fp16", names)
    return folder / "cats.safetensors"


def test_the_two_that_come_along_need_no_setting(tmp_path: Path) -> None:
    teacher = load_teacher(load_settings(None, {"service.data_dir": tmp_path / "data"}))
    assert isinstance(teacher, Ensemble)
    assert teacher.names == CLASSES


def test_a_teacher_of_other_classes_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    own = {"teacher.kind": "bundled", "teacher.file": str(cats(tmp_path))}
    settings = load_settings(None, {"service.data_dir": tmp_path / "data", **own})
    with pytest.raises(ModelError, match=r"no name for bicycle, car, motorcycle, truck: for bicycle, nearest are b"):
        load_teacher(settings)


def test_only_the_classes_of_interest_must_be_named(tmp_path: Path) -> None:
    own = {"teacher.kind": "bundled", "teacher.file": str(cats(tmp_path)), "round.interest": ["bus"]}
    teacher = load_teacher(load_settings(None, {"service.data_dir": tmp_path / "data", **own}))
    assert {CLASSES[label] for label in teacher.label([picture(64, 96)])[0].labels} <= {"person", "bus"}


def test_a_map_in_the_settings_says_what_names_mean(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(
        f'[service]\ndata_dir = "data"\n[teacher]\nkind = "bundled"\nfile = "{cats(tmp_path)}"\n'
        'views = ["whole", "flip"]\n'
        '[teacher.map]\ncar = ["cart"]\nbicycle = ["bicyle"]\ntruck = ["truk"]\nmotorcycle = ["cat"]\n'
    )
    assert load_teacher(load_settings(path, {})).names == CLASSES


def test_the_older_key_is_answered_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text('[service]\ndata_dir = "data"\n[teacher]\nweights = "own.safetensors"\n')
    with pytest.raises(SettingsError, match=r'teacher: .*write file = "own\.safetensors" instead of weights'):
        load_settings(path, {})


def test_a_view_that_there_is_not_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"teacher\.views: .*'half' is no view"):
        load_settings(None, {"service.data_dir": tmp_path / "data", "teacher.views": ["half"]})


def test_members_of_an_ensemble_find_their_files_beside_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    members = '[[teacher.member]]\nkind = "onnx"\nfile = "a.onnx"\n[[teacher.member]]\nkind = "bundled"\n'
    path.write_text(f'[service]\ndata_dir = "data"\n[teacher]\nkind = "ensemble"\n{members}')
    assert load_settings(path, {}).teacher.member[0].file == tmp_path / "a.onnx"


def test_what_a_teacher_says_changes_with_its_bytes_and_settings_but_not_with_scores(tmp_path: Path) -> None:
    first = TeacherSettings(kind="bundled", file=cats(tmp_path))
    assert identity(first) == identity(first.model_copy(update={"min_score": 0.3, "batch": 8}))
    assert identity(first) != identity(first.model_copy(update={"views": ("flip",)}))
    before = identity(first)
    save_weights(cats(tmp_path), small_student(seed=1), "fp16", CLASSES)
    assert identity(first) != before
    assert identity(TeacherSettings())["files"] == identity(TeacherSettings(batch=2))["files"]
    assert identity(TeacherSettings())["files"] != identity(TeacherSettings(kind="yolox-nano"))["files"]


def test_both_together_are_another_teacher_than_either_of_them() -> None:
    both, large, nano = (TeacherSettings(kind=kind) for kind in ("ensemble", "bundled", "yolox-nano"))
    assert identity(both)["files"] == identity(large)["files"] + identity(nano)["files"]
    assert identity(both) == identity(TeacherSettings(kind="ensemble", batch=8))
    assert identity(both) != identity(TeacherSettings(kind="ensemble", short_side=384))
    whole = TeacherSettings(kind="ensemble", member=(TeacherPart(), TeacherPart(kind="yolox-nano")))
    assert identity(both) != identity(whole)


def test_a_folder_is_known_by_all_that_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    told = TeacherSettings(kind="transformers", file=folder)
    with pytest.raises(ModelError, match="holds no file"):
        identity(told)
    (folder / "config.json").write_text("{}")
    before = identity(told)
    shutil.copy(folder / "config.json", folder / "more.json")
    assert identity(told) != before
    assert identity(TeacherSettings(kind="ensemble", member=(TeacherPart(), TeacherPart(kind="own"))))["files"]


class TestSets:
    """One teacher, loaded once, says the classes of every set."""

    def teachers(self, tmp_path: Path, names: tuple[str, ...], **sections: Any) -> Teachers:
        told = load_settings(None, {"service.data_dir": str(tmp_path), **sections})
        return Teachers(Says(names), told)

    def test_what_it_sees_is_told_by_the_list_of_each_set(self, tmp_path: Path) -> None:
        sets = {"shop": {"names": ["bottle", "vehicle"], "from": {"vehicle": ["car", "bus"]}}}
        teachers = self.teachers(tmp_path, ("person", "car", "bottle", "bus"), classes=sets)
        [found] = teachers.label([PICTURE], ("bottle", "vehicle"))
        assert found.labels.tolist() == [1, 0]
        [found] = teachers.saying(("person",)).label([PICTURE])
        assert found.labels.tolist() == [0]

    def test_a_map_says_what_this_teacher_calls_a_word(self, tmp_path: Path) -> None:
        sets = {"shop": {"names": ["vehicle"], "from": {"vehicle": ["car"]}}}
        given = {"classes": sets, "teacher.map": {"car": ["auto"]}}
        [found] = self.teachers(tmp_path, ("auto", "car"), **given).label([PICTURE], ("vehicle",))
        assert len(found) == 1

    def test_a_teacher_whose_names_do_not_cover_a_set_is_refused_with_the_nearest(self, tmp_path: Path) -> None:
        teachers = self.teachers(tmp_path, ("bottles", "person"), classes={"shop": {"names": ["bottle", "person"]}})
        with pytest.raises(ModelError, match=r"classes\.shop\.names: the teacher has no name for bottle: .* bottles"):
            teachers.saying(("bottle", "person"))

    def test_a_word_that_it_never_says_is_named_by_its_key(self, tmp_path: Path) -> None:
        sets = {"shop": {"names": ["vehicle"], "from": {"vehicle": ["car", "lorry"]}}}
        with pytest.raises(SettingsError, match=r"classes\.shop\.from\.vehicle: the teacher never says 'lorry'"):
            self.teachers(tmp_path, ("car", "truck"), classes=sets).saying(("vehicle",))

    def test_a_map_of_a_class_that_no_set_has_is_refused(self, tmp_path: Path) -> None:
        told = load_settings(None, {"service.data_dir": str(tmp_path), "teacher.map": {"lorry": ["truck"]}})
        with pytest.raises(SettingsError, match=r"teacher\.map: lorry is none of the classes"):
            load_teachers(told)


PICTURE = np.zeros((32, 32, 3), np.uint8)


class Says:
    """A teacher that sees one box of each of its names, apart from each other."""

    device, batch = "cpu", 4

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def label(self, frames: Sequence[Any]) -> list[Detections]:
        count = len(self.names)
        boxes = np.array([(0, 0, 4, 4)] * count, np.float32)
        return [Detections(boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.arange(count))] * len(frames)

    def gflops(self, height: int, width: int) -> float | None:
        return None
