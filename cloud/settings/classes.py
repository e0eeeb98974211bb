"""`[classes.NAME]`: what cameras look for, in sets; what no set says is what the bundled pair finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydantic import Field, field_validator, model_validator

from culling.cloud.weights.classes import CLASSES
from culling.common.config import Section
from culling.common.errors import SettingsError
from culling.common.wire.classes import check_classes

DEFAULT = "default"
"""The set of every camera that no other holds, written down or not."""

PALETTE = (
    *("#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#00a6a6", "#a65628", "#f781bf", "#6a8d00", "#7f7f7f"),
)
"""Colours of the classes that have none of their own, in the order of the list."""

_SET = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


class ClassSet(Section):
    """`[classes.NAME]`: the classes of some cameras, in the order of their labels.

    The set named `default` is that of every camera that no other holds; without one that is what the bundled pair
    finds. A class without an entry in `from` is meant by its own name.
    """

    names: tuple[str, ...] = Field(
        description="the classes, in the order of their labels; a name for another meaning is another name, or labels "
        "that are there already would be read wrongly"
    )
    cameras: tuple[str, ...] = Field(
        default=(),
        description="the cameras of the set: names, or patterns such as `shop-*`; the set called `default` needs none",
    )
    means: dict[str, tuple[str, ...]] = Field(
        default={},
        alias="from",
        description='what a teacher says for a class, e.g. `{ vehicle = ["car", "bus", "truck"] }`; a class that is '
        "not here is meant by its own name",
    )
    colours: dict[str, str] = Field(
        default={}, description='colours of classes on the page, e.g. `{ bottle = "#ff8800" }`; others get one each'
    )

    @field_validator("names")
    @classmethod
    def _listed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return check_classes(names)

    @model_validator(mode="after")
    def _fits(self) -> ClassSet:
        for key, table in (("from", self.means), ("colours", self.colours)):
            for name in table:
                if name not in self.names:
                    raise ValueError(f"{key}.{name} is none of the names; they are {', '.join(self.names)}")
        for name, colour in self.colours.items():
            if not _COLOUR.fullmatch(colour):
                raise ValueError(f"colours.{name} is {colour!r}, expected # and six hexadecimal digits")
        self._check_words()
        return self

    def _check_words(self) -> None:
        taken = {name.casefold(): name for name in self.names if name not in self.means}
        for name, words in self.means.items():
            if not words or not all(word.strip() for word in words):
                raise ValueError(
                    f"from.{name} has {'an empty word' if words else 'no word'}: leave it out, or name one"
                )
            for word in words:
                if (other := taken.get(word.casefold())) is not None:
                    raise ValueError(f"from.{name}: {word!r} means {other} already; a word means one class")
                taken[word.casefold()] = name

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a teacher that mean a class."""
        return self.means.get(name, (name,))

    def colour(self, name: str) -> str:
        """Return a class's colour, `#rrggbb`."""
        return self.colours.get(name, PALETTE[self.names.index(name) % len(PALETTE)])

    def holds(self, camera: str) -> bool:
        """Return whether the set names a camera, by name or pattern."""
        return any(fnmatchcase(camera, pattern) for pattern in self.cameras)


BUNDLED = ClassSet(names=CLASSES)


def check_sets(sets: Mapping[str, ClassSet]) -> None:
    """Raise ValueError for a name of a set that cannot be used, two sets of one list, or a camera in two sets."""
    lists: dict[tuple[str, ...], str] = {}
    for name, one in sets.items():
        if not _SET.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a set: use letters, digits, dashes and underscores")
        if (other := lists.setdefault(one.names, name)) != name:
            raise ValueError(
                f"classes.{other}.names and classes.{name}.names are the same: make them one set with all cameras"
            )
        for camera in one.cameras:
            for another in sets:
                if another != name and sets[another].holds(camera):
                    raise ValueError(
                        f"classes.{name}.cameras and classes.{another}.cameras both hold {camera}: leave it in one"
                    )


def all_sets(sets: Mapping[str, ClassSet]) -> dict[str, ClassSet]:
    """Return the sets by name, the one of all other cameras among them, first."""
    return {DEFAULT: sets.get(DEFAULT, BUNDLED)} | dict(sets)


def set_name(sets: Mapping[str, ClassSet], camera: str, asked: str | None = None) -> str:
    """Return the name of a camera's set: the one that an operator `asked` for if there is such, else the one it is in.

    Raises SettingsError where patterns of two sets hold the camera.
    """
    if asked is not None and asked in all_sets(sets):
        return asked
    found = [name for name, one in sets.items() if one.holds(camera)]
    if len(found) > 1:
        raise SettingsError(
            f"classes.{found[0]}.cameras and classes.{found[1]}.cameras both hold camera {camera}: leave it in one"
        )
    return found[0] if found else DEFAULT
