"""Where frames are kept: a JPEG on disk and a row in the index, each durable before the frame is acknowledged.

A frame is named by (edge key, boot, seq), and its file by the hash of that name: a frame that was written but not yet
entered when the power went is simply written again. The file always comes before the row, and the row's end before the
file's. A deterministic share of every camera's time is held out: its frames are never trained on, only judged by. What
becomes of a frame once it is stored stands in `lifecycle.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.folders import make_folder
from culling.cloud.store.index import Index, frames
from culling.common.atomic import write_all_atomic
from culling.common.clock import Clock
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.wire.messages import HardFrame, WireDetections, WireFeatures, from_wire

HELD_OUT_ONE_IN = 5
"""A fifth of the time judges students: with fewer frames the gate is a matter of chance, more are lost to training."""

STRETCH_S = 10.0
"""Frames seconds apart resemble each other: a held-out one beside one that was trained on would flatter the student."""

MOST_ORPHANS = 64
"""A power cut leaves at most the pictures behind that were being stored together; more are those of another index."""

log = structlog.get_logger(__name__)


Fate: TypeAlias = Literal["stored", "duplicate"]


@dataclass(frozen=True)
class Arrival:
    """A frame that an edge sent, with its picture."""

    edge_key: str
    frame: HardFrame
    jpeg: bytes

    @cached_property
    def name(self) -> str:
        """The frame's name in the store."""
        return frame_id(self.edge_key, self.frame.boot, self.frame.seq)


@dataclass(frozen=True)
class StoredFrame:
    """One frame of the store; `captured` is seconds since the epoch, `labels` None before the teacher saw it."""

    id: str
    camera: str
    captured: float
    reason: str
    loss: float
    model_id: str
    width: int
    height: int
    sha256: str
    held_out: bool
    detections: Detections
    features: WireFeatures | None
    labels: Detections | None


@dataclass(frozen=True)
class Counts:
    """Of one camera: frames `stored` and their `bytes`, how many are `waiting` for a round, the oldest of those, and
    how many are `held_out`.
    """

    stored: int = 0
    bytes: int = 0
    waiting: int = 0
    oldest_waiting: float | None = None
    held_out: int = 0


def frame_id(edge_key: str, boot: str, seq: int) -> str:
    """Return the name of a frame in the store: 32 hex digits."""
    return hashlib.sha256(f"{edge_key}\0{boot}\0{seq}".encode()).hexdigest()[:32]


def is_held_out(camera: str, captured: float, stretch_s: float = STRETCH_S) -> bool:
    """Return whether a frame captured then, in seconds since the epoch, is never trained on.

    Whole stretches of time are held out, since a frame says little of a student that has learnt the one beside it. Of
    `HELD_OUT_ONE_IN` stretches in a row one is, drawn for each such block, so that no traffic light keeps step with it.
    """
    block, place = divmod(int(captured // stretch_s), HELD_OUT_ONE_IN)
    return hashlib.sha256(f"{camera}\0{block}".encode()).digest()[0] % HELD_OUT_ONE_IN == place


def frame_counts(index: Index) -> dict[str, Counts]:
    """As `FrameStore.counts`, for callers that have only the index."""
    waiting = sa.and_(frames.c.round.is_(None), ~frames.c.held_out)
    query = sa.select(
        frames.c.camera,
        sa.func.count(),
        sa.func.sum(frames.c.bytes),
        sa.func.count(sa.case((waiting, 1))),
        sa.func.min(sa.case((waiting, frames.c.received))),
        sa.func.count(sa.case((frames.c.held_out, 1))),
    )
    with index.read() as connection:
        rows = connection.execute(query.where(frames.c.state == "stored").group_by(frames.c.camera))
        return {camera: Counts(*counts) for camera, *counts in rows}


class FrameStore:
    """Frames of every camera, below `folder` and in the index. Safe to use from several threads and processes."""

    def __init__(self, index: Index, folder: Path, clock: Clock, stretch_s: float = STRETCH_S) -> None:
        self._index = index
        self._folder = folder
        self._quarantine = folder.with_name("corrupt")
        self._clock = clock
        self._stretch_s = stretch_s

    # Ingest

    def known(self, names: Collection[str]) -> dict[str, str]:
        """Return which of the frames came before, even if they are gone since, with the hashes of their pictures."""
        query = sa.select(frames.c.id, frames.c.sha256).where(frames.c.id.in_(names))
        with self._index.read() as connection:
            return dict(connection.execute(query).all())

    def add(self, edge_key: str, frame: HardFrame, jpeg: bytes) -> Fate:
        """As `add_all`, for a single frame."""
        return self.add_all([Arrival(edge_key, frame, jpeg)])[0]

    def add_all(self, arrivals: Sequence[Arrival]) -> list[Fate]:
        """Make checked frames durable; on return files and rows are fsynced. Raises StorageError, leaving no row."""
        rows = [self._row(arrival) for arrival in arrivals]
        paths = [self.path(row["camera"], row["id"]) for row in rows]
        for folder in {path.parent for path in paths}:
            make_folder(folder)
        write_all_atomic({path: arrival.jpeg for path, arrival in zip(paths, arrivals, strict=True)})
        try:
            with self._index.write() as connection:
                connection.execute(frames.insert(), rows)
        except IntegrityError:
            return [self._enter(row) for row in rows] if len(rows) > 1 else ["duplicate"]
        return ["stored"] * len(rows)

    def _enter(self, row: dict[str, Any]) -> Fate:
        try:
            with self._index.write() as connection:
                connection.execute(frames.insert().values(**row))
        except IntegrityError:
            return "duplicate"
        return "stored"

    def counts(self) -> dict[str, Counts]:
        """Return the counts of every camera that has frames; held-out frames never wait."""
        return frame_counts(self._index)

    # Reading

    def select(
        self, camera: str, condition: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int | None
    ) -> list[StoredFrame]:
        """Return at most `limit` of a camera's stored frames that meet `condition`, in `order`."""
        query = frames.select().where(frames.c.camera == camera, frames.c.state == "stored", condition)
        with self._index.read() as connection:
            return [_stored(row) for row in connection.execute(query.order_by(order, frames.c.id).limit(limit))]

    def get(self, ids: Collection[str]) -> list[StoredFrame]:
        """Return the frames of those names that are still stored, in the order named."""
        query = frames.select().where(frames.c.id.in_(ids), frames.c.state == "stored")
        with self._index.read() as connection:
            found = {row.id: _stored(row) for row in connection.execute(query)}
        return [found[name] for name in ids if name in found]

    def jpeg(self, frame: StoredFrame) -> bytes | None:
        """Return a frame's picture; None if it cannot be read or is another than was stored: the frame is put aside."""
        path = self.path(frame.camera, frame.id)
        try:
            data = path.read_bytes()
        except OSError as error:  # one bad sector must not stop every round
            log.error("frame_read_failed", camera=frame.camera, frame=frame.id, error=error.strerror)
            data = b""
        if hashlib.sha256(data).hexdigest() == frame.sha256:
            return data
        self.put_aside(frame)
        return None

    def put_aside(self, frame: StoredFrame) -> None:
        """Take a frame whose picture cannot be used out of the store; its file is kept for inspection."""
        self._end([frame.id], "corrupt")
        path = self.path(frame.camera, frame.id)
        with _guarded(path):
            if path.exists():
                self._quarantine.mkdir(exist_ok=True)
                path.replace(self._quarantine / path.name)
        log.error("frame_put_aside", camera=frame.camera, frame=frame.id)

    # Upkeep

    def reconcile(self) -> int:
        """Remove files that no row names, left by a power cut; return how many. Run it before frames come in.

        Raises StorageError where the index knows no frame at all: it was lost, or is another one.
        """
        removed = 0
        if self._belongs_to_another_index():
            raise StorageError(
                f"the index knows no frame, but {self._folder} holds many: restore the index, or move them away"
            )
        with _guarded(self._folder):
            for folder in self._folder.iterdir() if self._folder.exists() else ():
                query = sa.select(frames.c.id).where(frames.c.camera == folder.name, frames.c.state == "stored")
                with self._index.read() as connection:
                    known = {f"{name}.jpg" for (name,) in connection.execute(query)}
                for path in folder.iterdir():
                    if path.name not in known:
                        path.unlink()
                        removed += 1
        return removed

    def _belongs_to_another_index(self) -> bool:
        with self._index.read() as connection:
            if connection.execute(sa.select(frames.c.id).limit(1)).first() is not None:
                return False
        with _guarded(self._folder):
            return len(list(islice(self._folder.glob("*/*"), MOST_ORPHANS + 1))) > MOST_ORPHANS

    def remove(self, camera: str, names: Collection[str]) -> None:
        """Remove frames for good: first what the rows hold, then the files; their names stay known."""
        self._end(names, "expired")
        for name in names:
            with _guarded(path := self.path(camera, name)):
                path.unlink(missing_ok=True)

    def _end(self, names: Collection[str], state: str) -> None:
        with self._index.write() as connection:
            ended = frames.update().where(frames.c.id.in_(names))
            connection.execute(ended.values(state=state, bytes=0, detections=None, features=None, labels=None))

    def _row(self, arrival: Arrival) -> dict[str, Any]:
        frame = arrival.frame
        told = {field: getattr(frame, field) for field in frame.__struct_fields__}
        told["detections"] = msgspec.msgpack.encode(frame.detections)
        told["features"] = None if frame.features is None else msgspec.msgpack.encode(frame.features)
        ours = {
            "id": arrival.name,
            "edge_key": arrival.edge_key,
            "state": "stored",
            "received": self._clock.now(),
            "bytes": len(arrival.jpeg),
        }
        return {**told, **ours, "held_out": is_held_out(frame.camera, frame.captured, self._stretch_s)}

    def path(self, camera: str, name: str) -> Path:
        """Return where the picture of a frame lies, or would."""
        return self._folder / camera / f"{name}.jpg"


def _stored(row: Any) -> StoredFrame:
    return StoredFrame(
        id=row.id,
        camera=row.camera,
        captured=row.captured,
        reason=row.reason,
        loss=row.loss,
        model_id=row.model_id,
        width=row.width,
        height=row.height,
        sha256=row.sha256,
        held_out=row.held_out,
        detections=_detections(row.detections),
        features=None if row.features is None else msgspec.msgpack.decode(row.features, type=WireFeatures),
        labels=None if row.labels is None else _detections(row.labels),
    )


def _detections(blob: bytes) -> Detections:
    return from_wire(msgspec.msgpack.decode(blob, type=WireDetections))


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot clean up {path}: {error.strerror}") from error
