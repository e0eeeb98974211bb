"""Frames of one edge in a store, and what is found of them there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.index import frames as table
from culling.common.frame import Detections
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, hard_frame, held_out

EDGE = "e" * 40


def add(cloud: CloudState, *seqs: int, camera: str = CAMERA, **changes: object) -> None:
    for seq in seqs:
        frame, jpeg = hard_frame(seq, camera, **changes)  # type: ignore[arg-type]
        assert cloud.frames.add(EDGE, frame, jpeg) == "stored"


def label_all(cloud: CloudState, seen: Detections | None = None) -> None:
    """Have a teacher see this, or nothing, in every frame that asks for labels."""
    found = Detections.empty() if seen is None else seen
    asking = [frame.id for frame in everything(cloud) if frame.labels is None and not frame.guard]
    cloud.lifecycle.label(dict.fromkeys(asking, found))


def known(cloud: CloudState, seq: int = 1) -> bool:
    name = frame_id(EDGE, "boot-1", seq)
    return name in cloud.frames.known([name])


def split(count: int) -> tuple[list[int], list[int]]:
    """Return the first `count` sequence numbers that are trained on, and those that are held out."""
    numbers = range(1, count + 1)
    held = [seq for seq in numbers if held_out(seq)]
    return [seq for seq in numbers if seq not in held], held


def files(cloud: CloudState) -> list[Path]:
    return sorted((cloud.data_dir / "frames").rglob("*.jpg"))


def everything(cloud: CloudState) -> list[StoredFrame]:
    with cloud.index.read() as connection:
        ids = connection.execute(sa.select(table.c.id).order_by(table.c.seq)).scalars().all()
    return cloud.frames.get(ids)
