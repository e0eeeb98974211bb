"""What a teacher is, of whatever kind, and how a kind is found by its name.

A kind is a function that `[teacher]` and the classes to find are handed to, and that returns a `Teacher`. It is named
by an entry point of the group `culling.teachers`, so that a teacher under another licence is another package:

    [project.entry-points."culling.teachers"]
    mine = "my_package.teacher:open_mine"
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from culling.cloud.settings import TeacherPart
from culling.common.errors import MissingExtraError, SettingsError
from culling.common.frame import Detections

if TYPE_CHECKING:
    from culling.cloud.model.distil.tutor import Tutor

KINDS = "culling.teachers"
"""Entry points of this group name a `Kind`; any installed package may add one."""

Picture = NDArray[np.uint8]
"""One frame, `(H, W, 3)` RGB."""


class Teacher(Protocol):
    """A detector of whole frames. `names` are what it can say, in the order of its labels."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each label stands for; several may share a name."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: `cpu`, or a GPU's name in torch."""
        ...

    @property
    def batch(self) -> int:
        """The most pictures that it looks at in one pass."""
        ...

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return what it sees in each frame, in that order: boxes in the frame's pixels, labels indices of `names`."""
        ...

    def gflops(self, height: int, width: int) -> float | None:
        """Return 10^9 multiplications and additions for a frame of that size, None where they cannot be counted."""
        ...


@runtime_checkable
class Tutoring(Protocol):
    """A teacher that students can be distilled from (`[round] distil`): it gives its features, and its box head."""

    @property
    def tutor(self) -> Tutor | None:
        """What it offers for that; None where what it works through has nothing of the kind."""
        ...


def tutor_of(teacher: Teacher) -> Tutor | None:
    """Return what a teacher offers to students that are distilled from it, None for one that cannot."""
    return teacher.tutor if isinstance(teacher, Tutoring) else None


class Wrapped:
    """What every teacher that works through another has of it: names, device, batch and cost."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.names = teacher.names

    @property
    def device(self) -> str:
        """Where it computes."""
        return self._teacher.device

    @property
    def batch(self) -> int:
        """The most pictures that it looks at in one pass."""
        return self._teacher.batch

    def gflops(self, height: int, width: int) -> float | None:
        """Return what a frame of that size costs the teacher."""
        return self._teacher.gflops(height, width)

    @property
    def tutor(self) -> Tutor | None:
        """What the teacher offers to students that are distilled from it: it is shown the same pictures, once each."""
        return tutor_of(self._teacher)


@runtime_checkable
class Scalable(Protocol):
    """A teacher whose input may be made larger or smaller, as the view `scale 1.5` asks for."""

    def at(self, scale: float) -> Teacher:
        """Return the same teacher with its input's sides multiplied by `scale`."""
        ...


class Kind(Protocol):
    """Opens a teacher as `part` says; `classes` are what is wanted of it, which only some need to be told."""

    def __call__(self, part: TeacherPart, classes: tuple[str, ...]) -> Teacher: ...


def find_kind(name: str) -> Kind:
    """Return the kind of that name. Raises `SettingsError` where no package brings it, or two do."""
    known = entry_points(group=KINDS)
    found = {entry.value: entry for entry in known if entry.name == name}
    if not found:
        names = sorted({entry.name for entry in known})
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names) or 'none: install it again'}"
        raise SettingsError(f"teacher.kind: no installed package brings a teacher {name!r}; {hint}")
    if len(found) > 1:
        raise SettingsError(f"teacher.kind: {name!r} is brought by {' and '.join(sorted(found))}; remove one of them")
    [entry] = found.values()
    try:
        kind: Kind = entry.load()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the teacher {name!r} needs {error.name}: install it, or repair {entry.value}"
        ) from None
    return kind
