"""`culling labels convert`: one label format into another, and what every format's reader and writer are called.

All readers and writers are our own. The libraries that do this (globox, supervision, datumaro) name neither file nor
line nor field of what is wrong, count no box that they cut, and parse XML with entities; datumaro also brings pandas
and pyarrow. Tests hold our files against globox and pycocotools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from culling.cloud.annotations import coco, cvat, lines, voc, yolo
from culling.cloud.annotations.classes import Wanted, chosen
from culling.cloud.annotations.folder import Sizes
from culling.cloud.annotations.looks import TITLES, Format, formats_in
from culling.cloud.annotations.picture import Contents, Picture, fitted
from culling.common.errors import InputError, StorageError
from culling.common.process.console import counted

Write = Callable[[Path, Sequence[Picture], Sequence[str]], None]


@dataclass(frozen=True)
class Kind:
    """How a format is read and written: as one file named `file` in a data set, or as a `folder` of files; its pictures
    lie in `images`. `precision` is how far an edge may be off after both, in pixels; not all keep `scores`.
    """

    read: Callable[[Path, Sizes], Contents]
    write: Write
    file: str
    images: str
    precision: float
    scores: bool
    folder: bool = False


KINDS: dict[Format, Kind] = {
    "coco": Kind(lambda path, _: coco.read(path), coco.write, "annotations.json", "images", 0.002, True),
    "yolo": Kind(yolo.read, yolo.write, "data.yaml", "images", 0.001, False, folder=True),
    "voc": Kind(lambda path, _: voc.read(path), voc.write, voc.FOLDER, "JPEGImages", 1.0, False, folder=True),
    "cvat": Kind(lambda path, _: cvat.read(path), cvat.write, "annotations.xml", "images", 0.006, False),
    "culling": Kind(
        lambda path, _: Contents(tuple(lines.read(path))),
        lambda out, pictures, _: lines.write(out, pictures),
        "labels.jsonl",
        "images",
        0.006,
        True,
    ),
}


@dataclass(frozen=True)
class Converted:
    """What was read: pictures with their boxes inside, the classes, and what was cut, dropped, left out or joined."""

    format: Format
    pictures: tuple[Picture, ...]
    classes: tuple[str, ...]
    clipped: int = 0
    outside: int = 0
    first: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    joined: int = 0

    @property
    def boxes(self) -> int:
        """How many boxes the pictures have."""
        return sum(len(picture.boxes) for picture in self.pictures)

    def told(self) -> list[str]:
        """Return a line for each thing that a person should know."""
        told = []
        if self.clipped or self.outside:
            told.append(
                f"{counted(self.clipped, 'box')} stuck out of a picture, cut at its edge; {self.outside} lay outside, "
                f"left out; the first: {self.first}"
            )
        if self.joined:
            told.append(f"{self.joined} entries are of pictures that have one before: the boxes of both count together")
        if self.dropped:
            rest = ", ".join(f"{count} {name}" for name, count in sorted(self.dropped.items()))
            told.append(f"dropped, of other classes: {rest}")
        if self.left_out:
            rest = ", ".join(f"{count} {name}" for name, count in sorted(self.left_out.items()))
            told.append(f"left out, since they are no boxes: {rest}")
        return told


def convert(
    source: Path, out: Path, to: Format, told: Format | None, wanted: Wanted, sizes: Sizes, least: float = 0.0
) -> Converted:
    """Write the labels of `source` to `out`, boxes of a score below `least` left out; return what was read.

    Raises InputError for what cannot be read, or where `out` exists.
    """
    found = read(source, told, wanted, sizes)
    pictures = [
        replace(picture, boxes=tuple(box for box in picture.boxes if box.score >= least)) for picture in found.pictures
    ]
    write(out, to, pictures, found.classes)
    return replace(found, pictures=tuple(pictures))


def read(path: Path, told: Format | None, wanted: Wanted, sizes: Sizes) -> Converted:
    """Read labels of the format that is `told`, or that they look like.

    Raises InputError that names file, line or field, and the likely format where that is another one.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    kind = told or _likely(path)
    try:
        contents, dropped = chosen(KINDS[kind].read(path, sizes), wanted)
        found = fitted(contents.pictures)
    except InputError as error:
        likely = formats_in(path)
        if not likely or kind in likely:
            raise
        raise InputError(f"{error}; this looks like {TITLES[likely[0]]}: --from {likely[0]}") from None
    if not found.pictures:
        raise InputError(f"{path}: holds no pictures")
    cut = (found.clipped, found.outside, found.first)
    pictures = joined(found.pictures)
    again = len(found.pictures) - len(pictures)
    return Converted(kind, pictures, contents.classes, *cut, dropped, contents.left_out, again)


def _likely(path: Path) -> Format:
    found = formats_in(path)
    if not found:
        raise InputError(f"{path}: looks like none of {', '.join(TITLES.values())}: name its format with --from")
    if len(found) > 1:
        names = " and ".join(TITLES[one] for one in found)
        raise InputError(f"{path}: holds {names}: name the file, or say which with --from {found[0]}")
    return found[0]


def joined(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Return one picture for each frame of each source, in the order in which they come first.

    Raises InputError where two give a frame different sizes.
    """
    found: dict[tuple[str, int], Picture] = {}
    for picture in pictures:
        key = picture.source, picture.frame
        first = found.setdefault(key, picture)
        if first is picture:
            continue
        if (first.width, first.height) != (picture.width, picture.height):
            raise InputError(
                f"{picture.at}: {picture.file_name} is {picture.width}x{picture.height} here and "
                f"{first.width}x{first.height} at {first.at}"
            )
        known = {(box.name, box.score, *box.corners) for box in first.boxes}
        new = tuple(box for box in picture.boxes if (box.name, box.score, *box.corners) not in known)
        found[key] = replace(first, boxes=first.boxes + new)
    return tuple(found.values())


def write(out: Path, to: Format, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write labels to a new file, or for formats of many files into a new or empty folder.

    Raises InputError where that exists, or for a name that not every format can hold, StorageError where it cannot be
    written.
    """
    kind = KINDS[to]
    for name in (*classes, *(picture.source for picture in pictures)):
        if not name.isprintable():
            raise InputError(f"{name!r} holds a character that cannot be seen: rename it")
    try:
        if kind.folder:
            out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) if kind.folder else out.exists():
            raise InputError(f"{out} exists already: name another, or remove it")
        kind.write(out, pictures, classes)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}") from error
