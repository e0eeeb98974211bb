"""Which of our classes each name of a teacher means: by `[teacher.map]`, else by the same name.

Pure: it takes lists of names and gives a table, so that any list of classes may stand on our side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from culling.cloud.model.coco import plain
from culling.cloud.model.distil.tutor import Tutor
from culling.cloud.teacher.fusion import SAME, suppress
from culling.cloud.teacher.interface import Picture, Teacher, Wrapped
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections

Map = Mapping[str, Sequence[str]]
"""Names of a teacher by the class that they mean, as in `[teacher.map]`."""

NONE = -1


def translation(
    names: Sequence[str],
    classes: Sequence[str],
    given: Map,
    wanted: Collection[str],
    keys: Mapping[str, str] = MappingProxyType({}),
) -> list[int]:
    """Return for each of the teacher's `names` the index in `classes` of what it means, -1 where that is nothing.

    A class in `given` means only what is listed there; `keys` are the settings that list it, where these are not
    `[teacher.map]`. Raises `SettingsError` for a map that does not fit the names, and `ModelError` where nothing means
    a class of `wanted`, with the nearest names there are.
    """
    _check(names, classes, given, keys)
    meant = {plain(one): name for name in given for one in given[name]}
    meant |= {plain(name): name for name in classes if name not in given and plain(name) not in meant}
    table = [classes.index(meant[plain(name)]) if plain(name) in meant else NONE for name in names]
    missing = [name for name in wanted if classes.index(name) not in table]
    if missing:
        raise ModelError(_uncovered(names, missing))
    return table


def _check(names: Sequence[str], classes: Sequence[str], given: Map, keys: Mapping[str, str]) -> None:
    known, taken = {plain(name) for name in names}, dict[str, str]()
    for name, listed in given.items():
        if name not in classes:
            raise SettingsError(f"teacher.map: {name} is none of the classes; they are {', '.join(classes)}")
        for one in listed:
            if plain(one) not in known:
                key = keys.get(name, f"teacher.map.{name}")
                raise SettingsError(f"{key}: the teacher never says {one!r}; {_nearest(one, names)}")
            if (other := taken.setdefault(plain(one), name)) != name:
                told = " and ".join(keys.get(each, f"teacher.map.{each}") for each in (other, name))
                raise SettingsError(f"{told} both list {one!r}; leave it under one")


def _uncovered(names: Sequence[str], missing: Sequence[str]) -> str:
    hints = "; ".join(f"for {name}, {_nearest(name, names)}" for name in missing)
    return (
        f"the teacher has no name for {', '.join(missing)}: {hints}. Say in [teacher.map] or in a set's "
        f"`from` which of its names mean what, or in round.interest which classes are wanted at all"
    )


def _nearest(name: str, names: Sequence[str]) -> str:
    by_plain = {plain(one): one for one in names}
    close = get_close_matches(plain(name), by_plain, n=3, cutoff=0.5)
    if close:
        return f"nearest are {', '.join(by_plain[one] for one in close)}"
    return f"it says {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"


class Translated(Wrapped):
    """A teacher that says our classes: what it finds of others is left out.

    Where several of its names mean one class, boxes of one object, say as a car and as a truck, become one.
    """

    def __init__(self, teacher: Teacher, table: Sequence[int], classes: tuple[str, ...]) -> None:
        super().__init__(teacher)
        self._table = np.asarray(table, np.int64)
        self._merged = {label for label in range(len(classes)) if list(table).count(label) > 1}
        self.names = classes

    @property
    def known(self) -> frozenset[int]:
        """The labels of our classes that the teacher has a name for."""
        return frozenset(self._table[self._table != NONE].tolist())

    @property
    def tutor(self) -> Tutor | None:
        """What the teacher offers to students that are distilled from it, by our classes."""
        own = super().tutor
        return None if own is None else own.meaning(self._table.tolist(), len(self.names))

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what the teacher sees of our classes in each frame, best first."""
        return [self._translate(found) for found in self._teacher.label(frames)]

    def _translate(self, found: Detections) -> Detections:
        labels = self._table[found.labels] if len(found) else found.labels
        ours = Detections(found.boxes, found.scores, labels).where(labels != NONE)
        return ours.where(self._distinct(ours))

    def _distinct(self, found: Detections) -> NDArray[np.bool_]:
        keep = np.ones(len(found), np.bool_)
        for label in self._merged & set(found.labels.tolist()):
            [rows] = np.nonzero(found.labels == label)
            keep[rows] = False
            keep[rows[suppress(found.boxes[rows], found.scores[rows], SAME)]] = True
        return keep
