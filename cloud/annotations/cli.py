"""`culling labels`: label files of other tools made into each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from culling.cloud.annotations.looks import TITLES, Format
from culling.common.errors import InputError
from culling.common.process.console import counted

HELP = "Convert label files: COCO, YOLO, Pascal VOC, CVAT, and culling's lines."
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False)

From = Annotated[
    Format | None, typer.Option("--from", help="Format of the labels.", show_default="what they look like")
]
Renamed = Annotated[
    list[str] | None, typer.Option("--map", metavar="FROM=TO", help="Give a class another name; repeatable.")
]
Drop = Annotated[bool, typer.Option("--drop", help="Leave out boxes of unknown classes, rather than refuse the file.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures, where the labels lack what they tell.")]
Size = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Size of all pictures, for YOLO labels without them.")
]


@app.callback()
def labels() -> None:
    """Convert label files: COCO, YOLO, Pascal VOC, CVAT, and culling's lines."""


@app.command("convert", epilog="Example: culling labels convert instances.json labels.jsonl --to culling --map van=car")
def convert_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Label file, or folder of them.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; a folder for yolo and voc.")],
    to: Annotated[Format, typer.Option(help="Format to write.")],
    told: From = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes that OUT may have, in order: a,b,c.", show_default="those of IN")
    ] = None,
    renamed: Renamed = None,
    drop: Drop = False,
    images: Images = None,
    size: Size = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out boxes of a lower score.")] = 0.0,
) -> None:
    """Make a label file of one format into another one.

    A box that sticks out of its picture is cut at the edge, and counted. Scores are kept by coco and culling alone.
    """
    from culling.cloud.annotations.classes import Wanted, parse_map
    from culling.cloud.annotations.convert import KINDS, convert
    from culling.cloud.annotations.folder import Sizes

    wanted = Wanted(_classes(classes), parse_map(renamed or []), drop)
    found = convert(source, out, to, told, wanted, Sizes(images, parse_size(size)), min_score)
    read = f"{counted(len(found.pictures), 'picture')}, {counted(found.boxes, 'box')}"
    print(f"{source} ({TITLES[found.format]}): {read} → {out}")
    for line in found.told():
        print(line)
    lost = sum(box.score < 1 for picture in found.pictures for box in picture.boxes)
    if lost and not KINDS[to].scores:
        weak = counted(lost, "box")
        print(f"{weak} had a score below 1, which {TITLES[to]} does not keep: --min-score leaves out weak ones")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return `WIDTHxHEIGHT` as two numbers. Raises InputError."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"--size {text}: expected WIDTHxHEIGHT, e.g. 1280x720")
    return int(width), int(height)


def _classes(text: str | None) -> tuple[str, ...] | None:
    from culling.cloud.annotations.picture import distinct

    return None if text is None else distinct((name.strip() for name in text.split(",")), "--classes")
