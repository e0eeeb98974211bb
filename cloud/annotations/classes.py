"""Which classes a label file has, and what becomes of those that the other side does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from culling.cloud.annotations.picture import Contents, Picture
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError


@dataclass(frozen=True)
class Wanted:
    """The classes that labels may have (None: any), names that stand for others (`renamed`), and whether boxes of
    unknown classes are dropped rather than an error.
    """

    classes: tuple[str, ...] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False


def parse_map(words: Sequence[str]) -> dict[str, str]:
    """Return `a=b` words as a map. Raises InputError."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, meant = word.partition("=")
        if not (name and equals and meant):
            raise InputError(f"--map {word}: expected FROM=TO, e.g. pedestrian=person")
        if found.setdefault(name, meant) != meant:
            raise InputError(f"--map {word}: {name} is already made {found[name]}")
    return found


def chosen(contents: Contents, wanted: Wanted) -> tuple[Contents, dict[str, int]]:
    """Return contents with the wanted classes alone, in their order, and how many boxes of which others were dropped.

    Without a list the order is that of the file, or where it has none, of the bundled classes, then the alphabet.
    Raises InputError for a class that is not wanted, or renamed but not there.
    """
    there = dict.fromkeys((*contents.classes, *(box.name for picture in contents.pictures for box in picture.boxes)))
    for name in wanted.renamed:
        if name not in there:
            raise InputError(f"--map {name}={wanted.renamed[name]}: there is no class {name}, but {', '.join(there)}")
    dropped: Counter[str] = Counter()
    pictures = tuple(_picture(picture, wanted, dropped) for picture in contents.pictures)
    if wanted.classes is not None:
        return replace(contents, pictures=pictures, classes=wanted.classes), dict(dropped)
    listed = dict.fromkeys(wanted.renamed.get(name, name) for name in contents.classes)
    used = {box.name for picture in pictures for box in picture.boxes} - listed.keys()
    if contents.classes and used:
        name = min(used)
        raise InputError(f"{_where(pictures, name)}: {_unknown(name, contents.classes)}")
    known = [name for name in CLASSES if name in used]
    classes = (*listed, *known, *sorted(used - set(known)))
    return replace(contents, pictures=pictures, classes=classes), {}


def _picture(picture: Picture, wanted: Wanted, dropped: Counter[str]) -> Picture:
    boxes = []
    for box in picture.boxes:
        name = wanted.renamed.get(box.name, box.name)
        if wanted.classes is not None and name not in wanted.classes:
            if not wanted.drop:
                raise InputError(f"{box.at or picture.at}: {_unknown(name, wanted.classes)}")
            dropped[name] += 1
            continue
        if not name.strip():
            raise InputError(f"{box.at or picture.at}: a box without a class")
        boxes.append(box if name == box.name else replace(box, name=name))
    return replace(picture, boxes=tuple(boxes))


def _unknown(name: str, classes: Sequence[str]) -> str:
    folded = {one.casefold(): one for one in classes}
    close = get_close_matches(name.casefold(), folded, n=1)
    meant = folded[close[0]] if close else None
    say = f"say what it is, e.g. --map '{name}={meant or next(iter(classes), 'car')}'"
    near = f"did you mean {meant}? " if meant else ""
    known = ", ".join(classes) or "none"
    return f"unknown class {name!r}; {near}known are {known}: {say}, or leave out such boxes with --drop"


def _where(pictures: Sequence[Picture], name: str) -> str:
    for picture in pictures:
        for box in picture.boxes:
            if box.name == name:
                return box.at or picture.at
    raise KeyError(name)
