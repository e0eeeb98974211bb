"""Pascal VOC: a folder with an XML file for each picture; its pixels count from 1, and a box holds both of its edges.

So a box over a whole picture of 640 pixels is 1 to 640. There are no scores, edges are whole pixels, and no list of
classes: those of the objects are the classes. Parts, poses and `difficult` say nothing of a box, and are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from culling.cloud.annotations.folder import inside, label_path
from culling.cloud.annotations.picture import Box, Contents, Picture, named
from culling.cloud.annotations.tree import Element, parse
from culling.common.errors import InputError

FOLDER = "Annotations"


def read(path: Path) -> Contents:
    """Return what a file, or all files of a folder, say. Raises InputError that names file, line and element."""
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: holds no .xml file")
    root = path if path.is_dir() else path.parent
    return Contents(tuple(_picture(file, root) for file in files))


def _picture(file: Path, root: Path) -> Picture:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot read labels: {error.strerror}") from None
    told = parse(data, file)
    if told.tag != "annotation":
        raise InputError(f"{told.at}: <{told.tag}>, expected <annotation>")
    size = told.first("size")
    width, height = size.first("width").size(), size.first("height").size()
    boxes = tuple(_box(one) for one in told.all("object"))
    return Picture(*named(_file_name(told, file, root)), width, height, boxes, told.at)


def _file_name(told: Element, file: Path, root: Path) -> str:
    """Return the picture's name, below the folders that its file lies in."""
    name = next((one.text.strip() for one in told.all("filename")), "") or f"{file.stem}.jpg"
    above = [part for part in file.relative_to(root).parts[:-1] if part != FOLDER]
    return str(PurePosixPath(*above, PurePosixPath(name.replace("\\", "/")).name))


def _box(told: Element) -> Box:
    edges = told.first("bndbox")
    x1, y1, x2, y2 = (edges.first(name).number() for name in ("xmin", "ymin", "xmax", "ymax"))
    return Box(told.first("name").text.strip(), 1.0, x1 - 1, y1 - 1, x2, y2, told.at)


def write(out: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write a file for each picture below `out`/Annotations. Raises InputError for names that no file may have."""
    files = inside(pictures)
    for picture, name in zip(pictures, files, strict=True):
        path = label_path(out / FOLDER, name, ".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_xml(picture, name), "utf-8")


def _xml(picture: Picture, name: PurePosixPath) -> str:
    objects = "".join(_object(picture, box) for box in picture.boxes)
    size = f"<width>{picture.width}</width><height>{picture.height}</height><depth>3</depth>"
    return (
        f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{escape(name.name)}</filename>\n"
        f"  <size>{size}</size>\n  <segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _object(picture: Picture, box: Box) -> str:
    """Return a box in whole pixels: at least one of them, and within the picture."""
    left, top = (min(round(edge), side - 1) for edge, side in ((box.x1, picture.width), (box.y1, picture.height)))
    edges = {
        "xmin": left + 1,
        "ymin": top + 1,
        "xmax": max(left + 1, round(box.x2)),
        "ymax": max(top + 1, round(box.y2)),
    }
    told = "".join(f"<{name}>{value}</{name}>" for name, value in edges.items())
    return (
        f"  <object>\n    <name>{escape(box.name)}</name>\n    <pose>Unspecified</pose>\n"
        f"    <truncated>0</truncated>\n    <difficult>0</difficult>\n    <bndbox>{told}</bndbox>\n  </object>\n"
    )
