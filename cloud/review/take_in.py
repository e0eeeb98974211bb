"""`culling cloud import`: labels that people made of a camera's frames, in any format, take the place of the teacher's.

A picture is known by the frame's name in its own, wherever a tool put that, or by its bytes. A frame whose boxes are
what the labels say already is left as it is: people correct a few frames of many that were exported, and what they did
not look at must not become certain. All of a file is taken over, or nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import sqlalchemy as sa

from culling.cloud.annotations.convert import KINDS, Converted
from culling.cloud.annotations.lines import to_label
from culling.cloud.annotations.picture import Picture
from culling.cloud.review.desk import Desk
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.index import frames
from culling.cloud.store.people.reviews import Said
from culling.common.errors import InputError
from culling.common.frame import Detections

NAMED = 5
"""Frames that a message names, of many that are wrong."""

_NAME = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(frozen=True)
class TakenIn:
    """Of how many frames the labels were taken over, were taken over before or say nothing new, and how many boxes."""

    taken: int
    same: int
    boxes: int


def take_in(
    desk: Desk,
    camera: str,
    found: Converted,
    images: Path | None,
    who: str,
    confirm: bool,
    also: Callable[[int], None],
) -> TakenIn:
    """Let a person's labels overrule the teacher's; with `confirm` also where they say the same.

    `also` is called before they become durable, with how many frames are new. Raises InputError, and takes nothing
    over, for pictures that are no stored frames of the camera, or that are not as large as those.
    """
    desk.require(camera)
    pairs = _matched(desk, camera, found.pictures, images)
    labels = {frame.id: to_label(picture, frame.classes).detections for frame, picture in pairs}
    known = {frame.id: frame for frame, _ in pairs}
    theirs = desk.reviews.of(camera, labels.keys())
    new = _differ(desk, camera, list(known.values()), labels, KINDS[found.format].precision)
    if confirm:
        new |= {name for name in labels if name not in theirs or theirs[name].decision == "skipped"}
    said = {name: Said("corrected", labels[name]) for name in new}
    taken = desk.reviews.enter(camera, said, who, desk.clock.now(), also)
    return TakenIn(len(taken), len(labels) - len(taken), sum(len(labels[name]) for name in taken))


def _differ(
    desk: Desk, camera: str, known: Sequence[StoredFrame], labels: Mapping[str, Detections], precision: float
) -> set[str]:
    """Return the frames of which the labels say something else, and so does what a round makes of them."""

    def said(frame: StoredFrame) -> bool:
        return frame.labels is not None and _same(labels[frame.id], desk.true(frame.labels), precision)

    new = [frame for frame in known if not said(frame)]
    return {frame.id for frame in new} - {frame.id for frame in desk.settled(camera, new) if said(frame)}


def _matched(
    desk: Desk, camera: str, pictures: Sequence[Picture], images: Path | None
) -> list[tuple[StoredFrame, Picture]]:
    """Return each picture with its frame. Raises InputError that names those without one."""
    ids = [_frame_id(desk, camera, picture, images) or "" for picture in pictures]
    stored = {frame.id: frame for frame in desk.store.get([name for name in ids if name]) if frame.camera == camera}
    unknown = [picture for picture, name in zip(pictures, ids, strict=True) if name not in stored]
    if unknown:
        raise InputError(_no_frames(desk, camera, unknown, len(pictures)))
    pairs: dict[str, tuple[StoredFrame, Picture]] = {}
    for picture, name in zip(pictures, ids, strict=True):
        frame = stored[name]
        if (picture.width, picture.height) != (frame.width, frame.height):
            raise InputError(
                f"{picture.at}: {picture.file_name} is {picture.width}x{picture.height}, the frame "
                f"{frame.width}x{frame.height}: label it at its own size"
            )
        other = pairs.setdefault(frame.id, (frame, picture))[1]
        if other is not picture:
            raise InputError(f"{picture.at}: {picture.file_name} is the same frame as {other.file_name} at {other.at}")
    return list(pairs.values())


def _frame_id(desk: Desk, camera: str, picture: Picture, images: Path | None) -> str | None:
    names = _NAME.findall(PurePosixPath(picture.file_name).name)
    known = [name for name in names if name in desk.store.known([name])] if len(names) > 1 else names
    return known[0] if known else _by_bytes(desk, camera, picture, images)


def _by_bytes(desk: Desk, camera: str, picture: Picture, images: Path | None) -> str | None:
    """Return the frame whose picture has the same bytes as the file of that name."""
    file = None if images is None else images / picture.file_name
    if file is None or not file.is_file():
        return None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    same = (frames.c.camera == camera) & (frames.c.state == "stored") & (frames.c.sha256 == digest)
    with desk.index.read() as connection:
        return connection.execute(sa.select(frames.c.id).where(same).limit(1)).scalar()


def _no_frames(desk: Desk, camera: str, unknown: Sequence[Picture], count: int) -> str:
    names = [picture.file_name for picture in unknown]
    others = "".join(f"; {one}" for one in _why(desk, camera, names))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"{unknown[0].at}: {len(unknown)} of {count} pictures are no stored frames of camera {camera}: "
        f"{', '.join(names[:NAMED])}{more}{others}; nothing is taken over. Names of frames are 32 hex digits, as "
        "`culling cloud export` gives them; of renamed ones name the folder with --images"
    )


def _why(desk: Desk, camera: str, names: Sequence[str]) -> Iterator[str]:
    """Yield what the index knows of frames that cannot be used: other cameras', and what is gone."""
    wanted = [match for name in names for match in _NAME.findall(name)]
    query = sa.select(frames.c.camera, frames.c.state, sa.func.count()).where(frames.c.id.in_(wanted))
    with desk.index.read() as connection:
        rows = connection.execute(query.group_by(frames.c.camera, frames.c.state)).all()
    for other, state, count in rows:
        if other != camera:
            yield f"{count} are of camera {other}"
        elif state != "stored":
            yield f"{count} are no longer stored ({state})"


def _same(one: Detections, other: Detections, precision: float) -> bool:
    """Return whether both have the same boxes, in any order, up to a format's precision."""
    if len(one) != len(other):
        return False
    near = np.abs(one.boxes[:, None] - other.boxes[None]).max(2, initial=0.0) <= precision + 1e-3
    near &= one.labels[:, None] == other.labels[None]
    free = np.ones(len(other), np.bool_)
    for row in near:
        left = np.flatnonzero(row & free)
        if not len(left):
            return False
        free[left[0]] = False
    return True
