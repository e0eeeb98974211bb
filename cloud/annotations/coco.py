"""COCO: one JSON object with `images`, `annotations` and `categories`; boxes are x, y, width, height in pixels.

An annotation may carry a `score`, which COCO's own files do not; crowds (`iscrowd`) are no objects, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from culling.cloud.annotations.picture import Box, Contents, Picture, distinct, named
from culling.common.errors import InputError

Id = int | str


class _Image(msgspec.Struct):
    id: Id
    file_name: str
    width: int | float  # some tools write 640.0
    height: int | float


class _Annotation(msgspec.Struct):
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    score: float = 1.0
    iscrowd: int | bool = 0


class _Category(msgspec.Struct):
    id: Id
    name: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read(path: Path) -> Contents:
    """Return what a file says, or `annotations.json` of a folder. Raises InputError that names the field."""
    path = path / "annotations.json" if path.is_dir() else path
    told = _decode(path)
    classes = distinct((category.name for category in told.categories), f"{path}: categories")
    names = _by_id(path, "categories", told.categories)
    images = _by_id(path, "images", told.images)
    boxes: dict[Id, list[Box]] = {key: [] for key in images}
    crowds = 0
    for number, one in enumerate(told.annotations):
        at = f"{path}: annotations[{number}]"
        if one.image_id not in images:
            raise InputError(f"{at}.image_id: no image has the id {one.image_id}")
        if one.category_id not in names:
            raise InputError(f"{at}.category_id: no category has the id {one.category_id}")
        if one.iscrowd:
            crowds += 1
            continue
        x, y, width, height = one.bbox
        boxes[one.image_id].append(Box(names[one.category_id].name, one.score, x, y, x + width, y + height, at))
    pictures = tuple(
        _picture(image, tuple(boxes[key]), f"{path}: images[{number}]")
        for number, (key, image) in enumerate(images.items())
    )
    return Contents(pictures, classes, {"crowds": crowds} if crowds else {})


def _picture(image: _Image, boxes: tuple[Box, ...], at: str) -> Picture:
    width, height = int(image.width), int(image.height)
    if (width, height) != (image.width, image.height):
        raise InputError(f"{at}: {image.width}x{image.height}, expected whole numbers")
    return Picture(*named(image.file_name), width, height, boxes, at)


def _decode(path: Path) -> _File:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{path}: cannot read labels: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError as error:
        if data.lstrip().startswith(b"["):
            raise InputError(f"{path}: a list of results names no images and no classes: {_told(error)}") from None
        raise InputError(f"{path}: {_told(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{_line(path, data, str(error))}: not JSON: {error}") from None


def _told(error: msgspec.ValidationError) -> str:
    """Return where in the file a value is wrong, then what is: `annotations[3].bbox: Expected ...`."""
    text, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {text}" if where else text


def _line(path: Path, data: bytes, message: str) -> str:
    found = re.search(r"\(byte (\d+)\)", message)
    return f"{path}:{data.count(bytes([10]), 0, int(found[1])) + 1}" if found else str(path)


def _by_id(path: Path, what: str, rows: Sequence[Any]) -> dict[Id, Any]:
    found: dict[Id, Any] = {}
    for number, row in enumerate(rows):
        if row.id in found:
            raise InputError(f"{path}: {what}[{number}].id: {row.id} is that of another one too")
        found[row.id] = row
    return found


def write(out: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write one file; classes are numbered from 1 in their order, edges have three digits, scores four."""
    numbers = {name: number for number, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": picture.file_name, **size})
        annotations += [
            {"id": len(annotations) + at, "image_id": number, **_annotation(box, numbers)}
            for at, box in enumerate(picture.boxes, 1)
        ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    whole = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    out.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")


def _annotation(box: Box, numbers: Mapping[str, int]) -> dict[str, Any]:
    width, height = box.x2 - box.x1, box.y2 - box.y1
    told = {
        "category_id": numbers[box.name],
        "bbox": [round(value, 3) for value in (box.x1, box.y1, width, height)],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "segmentation": [],
    }
    return told if box.score == 1 else {**told, "score": round(box.score, 4)}
