"""YOLO: a text file for each picture, a line for each box: class, centre and size, as fractions of the picture.

    data.yaml            the classes (or classes.txt, obj.names)
    train.txt            the pictures
    labels/a.txt         0 0.5 0.5 0.25 0.125
    images/a.jpg         whose size turns the fractions into pixels

A sixth value is a score. It is read but not written: trainers take such a line for a polygon, or refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from culling.cloud.annotations.folder import Sizes, inside, label_path, with_suffixes
from culling.cloud.annotations.looks import YOLO_NAMES
from culling.cloud.annotations.picture import Box, Contents, Picture, distinct, named
from culling.common.errors import InputError

LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")
FAR = 8.0
"""Fractions beyond this are pixels: no box is eight times as large as its picture."""


def read(path: Path, sizes: Sizes) -> Contents:
    """Return what all label files of a folder say; `path` may be its data.yaml. Raises InputError."""
    root = path if path.is_dir() else path.parent
    if not path.is_dir() and path.suffix not in (".yaml", ".yml", ".names") and path.name not in YOLO_NAMES:
        raise InputError(f"{path}: YOLO labels are a folder: name it, or its data.yaml")
    classes = _classes(root, path)
    listed = _listed(root)
    skipped = {*YOLO_NAMES, *LISTS}
    texts = (file for file in sorted(root.rglob("*.txt")) if not file.name.upper().startswith("README"))
    files = [file for file in texts if file.name not in skipped]
    if not files:
        raise InputError(f"{root}: holds no label file, e.g. labels/a.txt")
    return Contents(tuple(_picture(file, root, classes, listed, sizes) for file in files), classes)


def _classes(root: Path, path: Path) -> tuple[str, ...]:
    files = [path] if path.is_file() else [root / name for name in YOLO_NAMES]
    for file in (*files, *sorted(root.glob("*.names"))):
        if file.is_file():
            return distinct(_names_in(file), str(file))
    raise InputError(f"{root}: nothing names the classes: add data.yaml, classes.txt or obj.names")


def _names_in(file: Path) -> list[str]:
    text = _text(file)
    if file.suffix not in (".yaml", ".yml"):
        return text.strip().splitlines()
    try:
        told: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = str(file) if line is None else f"{file}:{line + 1}"
        raise InputError(f"{at}: not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    except (ValueError, RecursionError):  # a date that is none, for example
        raise InputError(f"{file}: not YAML that can be read") from None
    names = told.get("names") if isinstance(told, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: names: expected a list of class names, or one number for each from 0 on")
    return names


def _listed(root: Path) -> dict[PurePosixPath, str]:
    """Return the names of the pictures that are listed, by their names without ending."""
    names = [
        str(_without(PurePosixPath(line.strip()), "images"))
        for name in LISTS
        if (file := root / name).is_file()
        for line in _text(file).splitlines()
        if line.strip()
    ]
    return {PurePosixPath(name).with_suffix(""): name for name in names if PurePosixPath(name).name}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot read labels: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is no text in UTF-8") from None


def _without(path: PurePosixPath, folder: str) -> PurePosixPath:
    return PurePosixPath(*(part for part in path.parts if part != folder))


def _picture(file: Path, root: Path, classes: Sequence[str], listed: dict[PurePosixPath, str], sizes: Sizes) -> Picture:
    below = PurePosixPath(*file.relative_to(root).with_suffix("").parts)
    key = _without(below, "labels")
    images = PurePosixPath(*("images" if part == "labels" else part for part in below.parts))
    ended = listed.get(key)
    beside = [root / one for one in with_suffixes(f"{images}{PurePosixPath(ended or 'a.jpg').suffix}")]
    name = ended or next((f"{key}{path.suffix}" for path in beside if path.is_file()), f"{key}.jpg")
    width, height = sizes.of(beside, name, str(file))
    return Picture(*named(name), width, height, tuple(_boxes(file, classes, width, height)), str(file))


def _boxes(file: Path, classes: Sequence[str], width: int, height: int) -> Iterator[Box]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not (words := line.split()):
            continue
        at = f"{file}:{number}"
        if len(words) not in (5, 6):
            why = "; polygons are not read" if len(words) > 6 and len(words) % 2 else ""
            raise InputError(f"{at}: {len(words)} values, expected class, x, y, width, height{why}")
        label, (x, y, w, h, *score) = _class(words[0], classes, at), _numbers(words[1:], at)
        edges = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        yield Box(label, score[0] if score else 1.0, *edges, at)


def _class(word: str, classes: Sequence[str], at: str) -> str:
    if not word.isdecimal() or not word.isascii():
        raise InputError(f"{at}: class is {word!r}, expected a whole number")
    if len(word) > 9 or int(word) >= len(classes):
        raise InputError(f"{at}: class {word}, but only 0 to {len(classes) - 1} have names")
    return classes[int(word)]


def _numbers(words: Sequence[str], at: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{at}: {' '.join(words)!r}: expected numbers") from None
    if any(abs(value) > FAR for value in values):
        raise InputError(f"{at}: {' '.join(words)}: expected fractions of the picture, these look like pixels")
    return values


def write(out: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write labels, the list of pictures and the classes into a folder. Raises InputError for names of no file."""
    names = inside(pictures)
    numbers = {name: number for number, name in enumerate(classes)}
    for picture, name in zip(pictures, names, strict=True):
        path = label_path(out / "labels", name, ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{numbers[box.name]} {_fractions(box, picture)}\n" for box in picture.boxes))
    (out / "train.txt").write_text("".join(f"./images/{name}\n" for name in names), "utf-8")
    told = {"train": "train.txt", "val": "train.txt", "names": dict(enumerate(classes))}
    (out / "data.yaml").write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), "utf-8")


def _fractions(box: Box, picture: Picture) -> str:
    x, y = (box.x1 + box.x2) / 2 / picture.width, (box.y1 + box.y2) / 2 / picture.height
    w, h = (box.x2 - box.x1) / picture.width, (box.y2 - box.y1) / picture.height
    return " ".join(f"{value:.8f}" for value in (x, y, w, h))
