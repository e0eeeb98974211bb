"""The one loader of teachers: rounds, the labelling worker, studies and `culling teacher check` use it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from culling.cloud.model.distil.tutor import Tutor
from culling.cloud.settings import DEFAULT, CloudSettings, TeacherPart, TeacherSettings
from culling.cloud.teacher.classes import Translated, translation
from culling.cloud.teacher.ensemble import with_views
from culling.cloud.teacher.interface import Picture, Teacher, find_kind, tutor_of
from culling.cloud.weights.index import file_hash, read_index
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections

SCORES = {"min_score", "true_score", "batch"}
"""What does not change what a teacher says."""

OWN = {"bundled": "teacher.safetensors", "yolox-nano": "yolox-nano.safetensors"}
"""The weights that come with a kind, as the index calls them."""


class Teachers:
    """The teacher of the settings, loaded once, which says the classes of any set."""

    def __init__(self, own: Teacher, settings: CloudSettings) -> None:
        self.own = own
        self._settings = settings
        self._saying: dict[tuple[str, ...], Teacher] = {}

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.own.device

    def saying(self, classes: tuple[str, ...]) -> Teacher:
        """Return the teacher as one that says `classes`. Raises `ModelError` where it has no name for one of interest,
        `SettingsError` where a set's `from` does not fit it.
        """
        if classes not in self._saying:
            self._saying[classes] = self._translated(classes)
        return self._saying[classes]

    def label(self, frames: Sequence[Picture], classes: tuple[str, ...]) -> list[Detections]:
        """Return what the teacher sees of `classes` in each frame. Raises as `saying`."""
        return self.saying(classes).label(frames)

    def tutor(self, classes: tuple[str, ...]) -> Tutor:
        """Return what the teacher offers to students of `classes` that are distilled from it. Raises as `saying` and
        `tutor_in`.
        """
        return tutor_in(self.saying(classes), self._settings.teacher.kind)

    def _translated(self, classes: tuple[str, ...]) -> Teacher:
        settings = self._settings
        given, keys = sayings(settings, classes)
        if self.own.names == classes and not given:
            return self.own
        wanted = [name for name in settings.round.interest if name in classes] or classes
        where = next((f"classes.{name}.names: " for name, one in settings.classes.items() if one.names == classes), "")
        try:
            table = translation(self.own.names, classes, given, wanted, keys)
        except ModelError as error:
            raise ModelError(f"{where}{error}") from None
        return Translated(self.own, table, classes)


def load_teachers(settings: CloudSettings) -> Teachers:
    """Return the teacher that the settings name, for every set of classes.

    Raises `ModelError` when it cannot be used, `SettingsError` for settings that do not fit it, `MissingExtraError`
    when it needs a package that is not installed.
    """
    part, words = settings.teacher, vocabulary(settings)
    for name in part.map:
        if name not in words:
            raise SettingsError(f"teacher.map: {name} is none of the classes; they are {', '.join(words)}")
    return Teachers(with_views(open_named(part, words), part.views), settings)


def load_teacher(settings: CloudSettings) -> Teacher:
    """Return the teacher that the settings name, as one that says the classes of the default set.

    Raises as `load_teachers` and `Teachers.saying`.
    """
    return load_teachers(settings).saying(settings.default_classes)


def tutor_in(teacher: Teacher, kind: str) -> Tutor:
    """Return what a teacher of that kind offers to students. Raises `ModelError` where that is nothing."""
    if (found := tutor_of(teacher)) is None:
        raise ModelError(
            f"round.distil: the teacher {kind} has no features to learn from; leave it off, or take `bundled` without "
            "views, alone or as a member of an ensemble"
        )
    return found


def vocabulary(settings: CloudSettings) -> tuple[str, ...]:
    """Return every word that a set wants a teacher to say."""
    sets = settings.class_sets.values()
    return tuple(dict.fromkeys(word for one in sets for name in one.names for word in one.words(name)))


def sayings(settings: CloudSettings, classes: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return what of a teacher's names means each class, where it is not the class's own, and the settings that say so.

    A set's `from` names words, and `[teacher.map]` the names of this teacher that mean a word.
    """
    one, said = settings.set_like(classes), settings.teacher.map
    given, keys = {}, {}
    where = next((name for name, other in settings.classes.items() if other.names == classes), DEFAULT)
    for name in classes:
        words = one.words(name)
        if name in one.means or any(word in said for word in words):
            given[name] = tuple(each for word in words for each in said.get(word, (word,)))
        if name in one.means:
            keys[name] = f"classes.{where}.from.{name}"
    return given, keys


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
    without: dict[str, Any] = {**dict.fromkeys(SCORES, True), "member": {"__all__": {"batch"}}}
    told = teacher.model_dump(mode="json", exclude=without, exclude_defaults=True)
    parts = [teacher, *teacher.member]
    return told | {"files": [_content(part) for part in parts if part.kind in OWN or part.file]}


def _content(part: TeacherPart) -> str:
    if part.file is None:
        return read_index()[OWN[part.kind]].sha256
    return file_hash(part.file) if not part.file.is_dir() else _folder_hash(part.file)


def _folder_hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ModelError(f"{folder}: holds no file")
    lines = [f"{path.relative_to(folder)} {file_hash(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
