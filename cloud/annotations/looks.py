"""What a label file, or a folder of them, looks like: told from its names and first bytes, whatever it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Format: TypeAlias = Literal["coco", "yolo", "voc", "cvat", "culling"]
FORMATS: tuple[Format, ...] = get_args(Format)
TITLES = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC", "cvat": "CVAT for images", "culling": "culling's lines"}

HEAD = 65_536
"""Bytes that are looked at: in all of these formats what tells them apart stands there."""

YOLO_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files that name the classes of YOLO labels, the likelier first."""

_YOLO_LINE = re.compile(rb"\s*\d+(\.0*)?(\s+-?[\d.eE+-]+){4,5}\s*")


def looks_like(path: Path) -> Format | None:
    """Return the format that a file or folder seems to have, None if it is like none of them."""
    found = formats_in(path)
    return found[0] if found else None


def formats_in(path: Path) -> list[Format]:
    """Return the formats that a folder seems to have, which may be several; at most one of a file."""
    if not path.is_dir():
        one = _of_file(path)
        return [one] if one else []
    seen = {one for file in _label_files(path) if (one := _of_file(file)) is not None}
    return [name for name in FORMATS if name in seen]


def _label_files(folder: Path) -> list[Path]:
    """Return a few files of each kind: a folder of a million labels is known by any of them."""
    kinds = ("*.yaml", "*.yml", "*.names", "*.txt", "*.xml", "*.json", "*.jsonl")
    found: list[Path] = []
    for kind in kinds:
        some = folder.rglob(kind)
        found += [path for _, path in zip(range(8), some, strict=False)]
    return found


def _of_file(path: Path) -> Format | None:
    if path.name in YOLO_NAMES or path.suffix == ".names":
        return "yolo"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return None
    return _of_bytes(head)


def _of_bytes(head: bytes) -> Format | None:
    if head.startswith(b"<"):
        root = re.search(rb"<(annotations?)[\s>/]", head)
        return None if root is None else "voc" if root[1] == b"annotation" else "cvat"
    first = head.partition(b"\n")[0]
    if head.startswith(b"{") and b'"detections"' in first and b'"source"' in first:
        return "culling"
    if head.startswith((b"{", b"[")):
        return "coco" if re.search(rb'"(images|annotations|categories|image_id)"\s*:', head) else None
    return "yolo" if first.strip() and _YOLO_LINE.fullmatch(first.strip(b"\r\n")) else None
