"""Several looks at every frame, merged: several views of one teacher, or several teachers (kind `ensemble`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from culling.cloud.model.coco import NOTHING
from culling.cloud.model.distil.tutor import Tutor
from culling.cloud.settings import TeacherPart, TeacherSettings
from culling.cloud.teacher.classes import Translated, translation
from culling.cloud.teacher.fusion import Look, fuse
from culling.cloud.teacher.interface import Picture, Scalable, Teacher, Wrapped
from culling.cloud.teacher.views import View, Window, parse_view, to_whole, windows
from culling.common.errors import SettingsError
from culling.common.frame import Detections

FLOOR = 0.05
"""Boxes below this score are not merged: there are very many of them, and no label comes of them."""


class Viewed(Wrapped):
    """One teacher that looks at each frame in several ways; no single one of them has features of all that it sees."""

    @property
    def tutor(self) -> Tutor | None:
        """Return None."""
        return None

    def __init__(self, teacher: Teacher, views: Sequence[View]) -> None:
        super().__init__(teacher)
        self._looks = [(view, _scaled(teacher, view.scale)) for view in views]

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what all views together show in each frame, best first."""
        looks: list[list[Look]] = [[] for _ in frames]
        for view, teacher in self._looks:
            parts = [(number, part) for number, frame in enumerate(frames) for part in windows(view, *frame.shape[:2])]
            seen = teacher.label([_cut(frames[number], part, view.flip) for number, part in parts])
            for (number, part), found in zip(parts, seen, strict=True):
                height, width = frames[number].shape[:2]
                looks[number].append(Look(to_whole(found.above(FLOOR), part, view, height, width), part.region))
        return [fuse(one, agreement=False) for one in looks]

    def gflops(self, height: int, width: int) -> float | None:
        """Return what all views of a frame of that size cost together."""
        costs = [
            teacher.gflops(part.height, part.width)
            for view, teacher in self._looks
            for part in windows(view, height, width)
        ]
        return _sum(costs)


class Ensemble:
    """Several teachers that say `classes`; what fewer see of those that know its class is worth less."""

    def __init__(self, teachers: Sequence[Translated], classes: tuple[str, ...]) -> None:
        self._teachers = teachers
        self.tutor = next((one.tutor for one in teachers if one.tutor is not None), None)
        known = frozenset[int]().union(*(teacher.known for teacher in teachers))
        self.names = tuple(name if label in known else NOTHING for label, name in enumerate(classes))

    @property
    def device(self) -> str:
        """Where they compute."""
        return ", ".join(sorted({teacher.device for teacher in self._teachers}))

    @property
    def batch(self) -> int:
        """The most pictures that all of them look at in one pass."""
        return min(teacher.batch for teacher in self._teachers)

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the teachers see in each frame, best first; the score falls with every one that does not."""
        answers = [teacher.label(frames) for teacher in self._teachers]
        return [
            fuse(
                [
                    Look(one.above(FLOOR), (0, 0, frame.shape[1], frame.shape[0]), teacher.known)
                    for teacher, one in zip(self._teachers, found, strict=True)
                ]
            )
            for frame, *found in zip(frames, *answers, strict=True)
        ]

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs all of them."""
        return _sum([teacher.gflops(height, width) for teacher in self._teachers])


def open_ensemble(part: TeacherPart, classes: tuple[str, ...]) -> Teacher:
    """Return the teachers of `[[teacher.member]]` as one that says `classes`. Raises as each of them."""
    from culling.cloud.teacher.loading import open_named  # which opens this kind, too

    members = part.member if isinstance(part, TeacherSettings) else ()
    if len(members) < 2:
        raise SettingsError("teacher.member: an ensemble needs two or more [[teacher.member]] tables, or none at all")
    opened = [(member, with_views(open_named(member, classes), member.views)) for member in members]
    tables = [translation(one.names, classes, member.map, wanted=()) for member, one in opened]
    return Ensemble([Translated(one, table, classes) for (_, one), table in zip(opened, tables, strict=True)], classes)


def with_views(teacher: Teacher, views: Sequence[str]) -> Teacher:
    """Return `teacher` as it looks in all `views`; with none, or with `whole` alone, it stays as it is.

    Raises `SettingsError` for a scale that the teacher cannot take.
    """
    parsed = [parse_view(view) for view in views]
    return teacher if parsed in ([], [View()]) else Viewed(teacher, parsed)


def _scaled(teacher: Teacher, scale: float) -> Teacher:
    if scale == 1:
        return teacher
    if not isinstance(teacher, Scalable):
        raise SettingsError(f"teacher.views: this teacher's input has a fixed size, so `scale {scale:g}` is not for it")
    return teacher.at(scale)


def _cut(frame: Picture, part: Window, flip: bool) -> Picture:
    seen = frame[part.top : part.top + part.height, part.left : part.left + part.width]
    return np.ascontiguousarray(seen[:, ::-1] if flip else seen)


def _sum(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
