"""`culling cloud export`: frames of a camera with their labels, in a folder that label tools open.

A picture keeps the bytes that it was stored with, and is named after its frame, so that what people make of it finds
back. Labels are those that count as true, as a round would read them now; frames without labels stay here, since a tool
would take them for empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from culling.cloud.annotations.convert import KINDS, write
from culling.cloud.annotations.lines import Label, to_picture
from culling.cloud.annotations.looks import Format
from culling.cloud.annotations.picture import Picture
from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import disputes
from culling.cloud.store.frames import StoredFrame
from culling.common.errors import InputError, StorageError
from culling.common.frame import Detections
from culling.common.progress import Show

What: TypeAlias = Literal["culled", "held-out", "disputed", "all"]

AT_ONCE = 64
"""Frames whose labels are settled before the next are looked at: it takes longer than to copy them."""

EMPTY: dict[What, str] = {
    "culled": "it has no culled set yet: its first round makes one",
    "held-out": "none of its held-out frames is labelled yet: the teacher labels them as they come",
    "disputed": "teacher and student dispute nothing that nobody has looked at",
    "all": "none of its frames is labelled yet: the teacher labels them as they come",
}


@dataclass(frozen=True)
class Exported:
    """How many frames and boxes were written, where the labels are, and how many pictures were `lost`: damaged ones."""

    frames: int
    boxes: int
    labels: Path
    lost: int


def chosen(desk: Desk, camera: str, what: What, most: int | None) -> list[StoredFrame]:
    """Return the frames of a set, at most so many. Raises InputError for an empty one."""
    desk.require(camera)
    sets: dict[What, Callable[[], list[StoredFrame]]] = {
        "culled": lambda: desk.culled(camera),
        "held-out": lambda: desk.held_out(camera),
        "disputed": lambda: [one.frame for one in disputes(desk, camera, most).frames],
        "all": lambda: desk.labelled(camera),
    }
    if not (found := sets[what]()):
        raise InputError(f"camera {camera}: nothing to export, {EMPTY[what]}")
    return found if most is None else found[:most]


def export(desk: Desk, frames: Sequence[StoredFrame], out: Path, to: Format, show: Show) -> Exported:
    """Write frames and their labels into a new or empty folder; the labels come last.

    Raises InputError where the folder holds something, StorageError where it cannot be written.
    """
    kind = KINDS[to]
    images = out / kind.images
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"{out} is not empty: name a new folder")
        images.mkdir()
        pictures = []
        for done, (frame, jpeg) in enumerate(_read(desk, frames), 1):
            if jpeg is not None:
                (images / f"{frame.id}.jpg").write_bytes(jpeg)
                pictures.append(_picture(desk, frame))
            show(done, "")
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}") from error
    if not pictures:
        raise InputError(f"none of the {len(frames)} pictures can be read: see `culling cloud fsck`")
    labels = out / kind.file
    if kind.folder:
        kind.write(out, pictures, frames[0].classes)
    else:
        write(labels, to, pictures, frames[0].classes)
    return Exported(len(pictures), sum(len(one.boxes) for one in pictures), labels, len(frames) - len(pictures))


def _read(desk: Desk, frames: Sequence[StoredFrame]) -> Iterator[tuple[StoredFrame, bytes | None]]:
    """Yield each frame with its labels as a round reads them, and its picture; None for a damaged one."""
    settle = desk.settler(frames[0].camera)
    for start in range(0, len(frames), AT_ONCE):
        yield from ((frame, desk.store.jpeg(frame)) for frame in settle(frames[start : start + AT_ONCE]))


def _picture(desk: Desk, frame: StoredFrame) -> Picture:
    true = desk.true(frame.labels or Detections.empty())
    return to_picture(Label(f"{frame.id}.jpg", 0, frame.width, frame.height, true, frame.id), frame.classes)
