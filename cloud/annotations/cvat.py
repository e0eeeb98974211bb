"""CVAT for images 1.1: one XML file; boxes are two corners in pixels with two digits, classes stand in its head.

Shapes that are no boxes (polygons, points, masks ...) are left out, and counted. CVAT exports a video as tracks unless
it is asked for images: such a file is refused with what to choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from culling.cloud.annotations.picture import Box, Contents, Picture, distinct, named
from culling.cloud.annotations.tree import Element, parse
from culling.common.errors import InputError

OWNERS = ("task", "job", "project")
"""Where the head lists the classes: in what was exported."""


def read(path: Path) -> Contents:
    """Return what a file says. Raises InputError that names line and element."""
    file = path / "annotations.xml" if path.is_dir() else path
    try:
        told = parse(file.read_bytes(), file)
    except OSError as error:
        raise InputError(f"{file}: cannot read labels: {error.strerror}") from None
    if told.tag != "annotations":
        raise InputError(f"{told.at}: <{told.tag}>, expected <annotations>")
    for track in told.all("track"):
        raise InputError(f"{track.at}: <track>: this is CVAT for video; export it as 'CVAT for images 1.1'")
    images = list(told.all("image"))
    shapes = Counter(shape.tag for image in images for shape in image.children if shape.tag not in ("box", "tag"))
    return Contents(tuple(map(_picture, images)), _classes(told), {f"{tag}s": count for tag, count in shapes.items()})


def _classes(told: Element) -> tuple[str, ...]:
    heads = [owner for meta in told.all("meta") for name in OWNERS for owner in meta.all(name)]
    listed = [label for head in heads for labels in head.all("labels") for label in labels.all("label")]
    at = listed[0].at if listed else told.at
    return distinct((label.first("name").text.strip() for label in listed), at)


def _picture(image: Element) -> Picture:
    boxes = tuple(_box(box) for box in image.all("box"))
    name, width, height = image.attribute("name"), image.size("width"), image.size("height")
    return Picture(*named(name), width, height, boxes, image.at)


def _box(box: Element) -> Box:
    if box.attributes.get("rotation") and box.number("rotation") % 360:
        raise InputError(f"{box.at}: a box that is turned by {box.attribute('rotation')} degrees; turn it straight")
    x1, y1, x2, y2 = (box.number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
    return Box(box.attribute("label"), 1.0, x1, y1, x2, y2, box.at)


def write(out: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write one file."""
    out.write_text("".join(_lines(pictures, classes)), "utf-8")


def _lines(pictures: Sequence[Picture], classes: Sequence[str]) -> Iterator[str]:
    labels = "".join(f"<label><name>{escape(name)}</name><attributes></attributes></label>" for name in classes)
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield f"  <meta><task><size>{len(pictures)}</size><labels>{labels}</labels></task></meta>\n"
    for number, picture in enumerate(pictures):
        size = f'width="{picture.width}" height="{picture.height}"'
        yield f'  <image id="{number}" name={quoteattr(picture.file_name)} {size}>\n'
        for box in picture.boxes:
            edges = " ".join(
                f'{name}="{edge:.2f}"' for name, edge in zip(("xtl", "ytl", "xbr", "ybr"), box.corners, strict=True)
            )
            yield f'    <box label={quoteattr(box.name)} source="manual" occluded="0" {edges} z_order="0"></box>\n'
        yield "  </image>\n"
    yield "</annotations>\n"
