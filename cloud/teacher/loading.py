"""The one loader of teachers: rounds, the labelling worker, studies and `culling teacher check` use it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from culling.cloud.model.weights import file_hash, read_index
from culling.cloud.settings import CloudSettings, TeacherPart, TeacherSettings
from culling.cloud.teacher.classes import Translated, translation
from culling.cloud.teacher.ensemble import with_views
from culling.cloud.teacher.interface import Teacher, find_kind
from culling.common.errors import ModelError
from culling.common.frame import CLASSES

SCORES = {"min_score", "true_score", "batch"}
"""What does not change what a teacher says."""


def load_teacher(settings: CloudSettings) -> Teacher:
    """Return the teacher that the settings name; its labels are those of `CLASSES`.

    Raises `ModelError` when it cannot be used or has no name for a class of interest, `SettingsError` for settings that
    do not fit it, `MissingExtraError` when it needs a package that is not installed.
    """
    return open_part(settings.teacher, CLASSES, settings.round.interest)


def open_part(part: TeacherPart, classes: tuple[str, ...], interest: Collection[str] = ()) -> Teacher:
    """Return the teacher that `part` describes, in all its views, as one that says `classes`.

    It must have a name for each class of `interest` (empty: for each of `classes`). Raises as `load_teacher`.
    """
    return as_ours(open_named(part, classes), part, classes, interest)


def as_ours(own: Teacher, part: TeacherPart, classes: tuple[str, ...], interest: Collection[str] = ()) -> Teacher:
    """Return what `open_named` gave as `open_part` gives it: in all its views, and saying `classes`."""
    teacher = with_views(own, part.views)
    if teacher.names == classes and not part.map:
        return teacher
    return Translated(teacher, translation(teacher.names, classes, part.map, interest or classes), classes)


def open_named(part: TeacherPart, classes: tuple[str, ...]) -> Teacher:
    """Return the teacher that `part` describes, with the names that it has itself. Raises as `load_teacher`."""
    return find_kind(part.kind)(part, classes)


def identity(teacher: TeacherSettings) -> dict[str, Any]:
    """Return what changes when what the teacher says may change: its settings, and the bytes of its files.

    Raises `ModelError` for a file that cannot be read.
    """
    told = teacher.model_dump(mode="json", exclude=SCORES, exclude_defaults=True)
    parts = [teacher, *teacher.member]
    return told | {"files": [_content(part) for part in parts if part.kind == "bundled" or part.file]}


def _content(part: TeacherPart) -> str:
    if part.file is None:
        return next(entry.sha256 for entry in read_index().values() if entry.kind == "teacher")
    return file_hash(part.file) if not part.file.is_dir() else _folder_hash(part.file)


def _folder_hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ModelError(f"{folder}: holds no file")
    lines = [f"{path.relative_to(folder)} {file_hash(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
