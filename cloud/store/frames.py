"""Where frames are kept: a JPEG on disk and a row in the index, each durable before the frame is acknowledged.

A frame is named by (edge key, boot, seq), and its file by the hash of that name: a frame that was written but not yet
entered when the power went is simply written again. The file always comes before the row, and the row's end before the
file's. In a bucket that services share, the picture's hash is part of the name, so that none ever overwrites another.

A deterministic share of every camera's time is held out: its frames are never trained on, only judged by. What becomes
of a frame once it is stored stands in `lifecycle.py`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.classes.lists import Reading
from culling.cloud.store.index import (
    UNREAD,
    Index,
    changes,
    frames,
    ignores,
    scores,
    shelf,
    stored_among,
    teacher_features,
    totals,
)
from culling.cloud.store.objects.folder import Folder
from culling.cloud.store.objects.objects import LostError, Objects
from culling.cloud.store.people import reviews
from culling.cloud.store.picture import FrameRecord, seal, sealed_size, unseal
from culling.cloud.store.purge.withheld import Withheld, withheld
from culling.common.clock import Clock
from culling.common.errors import ProtocolError, StorageError
from culling.common.frame import Detections
from culling.common.wire import ignored
from culling.common.wire.echo import Echo
from culling.common.wire.ignored import Places
from culling.common.wire.messages import HardFrame, WireFeatures
from culling.common.wire.protocol import frame_id

HELD_OUT_ONE_IN = 5
"""A fifth of the time judges students: with fewer frames the gate is a matter of chance, more are lost to training."""

HELD_OUT_BLOCK_S = 300.0
GUARD_S = 60.0
"""What stands still for minutes would be on both sides: a student is flattered by a car that it was trained on."""

ENDED = ("expired", "corrupt", "purged")
"""States of a frame that is no longer stored; its row stays for a while, so that a repeat is known."""

MOST_UNKNOWN = 64
"""A power cut leaves at most the files of one commit; more without row and record belong to an index that was lost."""

log = structlog.get_logger(__name__)


Fate: TypeAlias = Literal["stored", "duplicate"] | Withheld
Leftover: TypeAlias = Literal["reindex", "remove", "quarantine"]


@dataclass(frozen=True)
class Arrival:
    """A frame that an edge sent, with its picture; it came at `received`, seconds since the epoch."""

    edge_key: str
    frame: HardFrame
    jpeg: bytes
    received: float = 0.0

    @cached_property
    def name(self) -> str:
        """The frame's name in the store."""
        return frame_id(self.edge_key, self.frame.boot, self.frame.seq)

    @cached_property
    def size(self) -> int:
        """Bytes of the frame's file; when it came does not change them."""
        return sealed_size(self.jpeg, FrameRecord(self.edge_key, 0.0, self.frame))


@dataclass(frozen=True)
class Reconciled:
    """Files that no stored frame named: rows written again from them, leftovers removed, files moved to quarantine."""

    reindexed: int = 0
    removed: int = 0
    quarantined: int = 0


@dataclass(frozen=True)
class StoredFrame:
    """One frame of the store; `captured` is seconds since the epoch, `labels` None before the teacher saw it, or a
    person did.

    `detections` and `labels` are by the list `classes`, the one in force for the camera.
    One that is `held_out` is never trained on, and judges unless it is of a `guard`.
    `probability` is that with which an audit was drawn, None for any other frame and for audits of earlier versions.
    In the places that its camera `ignored`, `labels` do not count: `evaluation/ignored.py` applies that. `echo` is what
    an audit tells of the frames before it, None where it tells nothing. One that is `answered` went out with the
    teacher's detections, which came in time.
    """

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
    guard: bool
    detections: Detections
    features: WireFeatures | None
    labels: Detections | None
    probability: float | None = None
    ignored: Places = ()
    classes: tuple[str, ...] = ()
    echo: Echo | None = None
    answered: bool = False


@dataclass(frozen=True)
class Counts:
    """Of one camera: frames `stored` and their `bytes`; of the labelled ones, how many are `waiting` for a round, when
    the oldest of those came, and how many are `held_out` to judge by; and how many ask for labels, of those that judge
    a student or measure it (`asking_judges`) and of the others.
    """

    stored: int = 0
    bytes: int = 0
    waiting: int = 0
    oldest_waiting: float | None = None
    held_out: int = 0
    asking_judges: int = 0
    asking_others: int = 0

    @property
    def asking(self) -> int:
        """How many frames wait for the teacher."""
        return self.asking_judges + self.asking_others


JUDGES = sa.and_(frames.c.held_out, frames.c.guard.is_not(True))  # NULL in rows from before there were guards
"""Which frames students are judged by."""


def is_held_out(camera: str, captured: float, block_s: float = HELD_OUT_BLOCK_S) -> bool:
    """Return whether a frame captured then, in seconds since the epoch, is of a block that students are judged by.

    Whole blocks of time are held out, since a frame says little of a student that has learnt the one beside it. Of
    `HELD_OUT_ONE_IN` blocks in a row one is, drawn for each such group, so that no traffic light keeps step with it.
    """
    group, place = divmod(int(captured // block_s), HELD_OUT_ONE_IN)
    return hashlib.sha256(f"{camera}\0{group}".encode()).digest()[0] % HELD_OUT_ONE_IN == place


def is_guard(camera: str, captured: float, block_s: float = HELD_OUT_BLOCK_S, guard_s: float = GUARD_S) -> bool:
    """Return whether a frame captured then lies within `guard_s` of a held-out block, but not in one."""
    if is_held_out(camera, captured, block_s):
        return False
    return any(is_held_out(camera, captured + shift, block_s) for shift in (-guard_s, guard_s))


def frame_counts(index: Index) -> dict[str, Counts]:
    """As `FrameStore.counts`, for callers that have only the index."""
    waiting = sa.and_(frames.c.camera == totals.c.camera, UNREAD)
    first = sa.select(sa.func.min(frames.c.received)).where(waiting).scalar_subquery()
    kept, oldest = totals.c, sa.case((totals.c.waiting > 0, first))
    columns = (kept.stored, kept.bytes, kept.waiting, oldest, kept.held_out, kept.asking_judges, kept.asking_others)
    with index.read() as connection:
        rows = connection.execute(sa.select(kept.camera, *columns).where(kept.stored > 0))
        return {camera: Counts(*counts) for camera, *counts in rows}


class FrameStore:
    """Frames of every camera, below `folder` and in the index. Safe to use from several threads and processes."""

    def __init__(
        self,
        index: Index,
        folder: Path,
        clock: Clock,
        block_s: float = HELD_OUT_BLOCK_S,
        guard_s: float = GUARD_S,
        objects: Objects | None = None,
    ) -> None:
        self._index = index
        self._local = Folder(folder.parent)
        self._objects = objects or self._local
        self._folder = folder
        self._quarantine = folder.with_name("corrupt")
        self._clock = clock
        self._block_s = block_s
        self._guard_s = guard_s

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
        """Make checked frames durable; on return files and rows are fsynced. Raises StorageError, leaving no row.

        A frame of a camera that was removed, or from before a purge, leaves neither.
        """
        # Each its own time, so that the order of frames that came together is kept.
        received = list(accumulate((self._clock.now() for _ in arrivals), _later))
        files = [_sealed(*one) for one in zip(arrivals, received, strict=True)]
        names = [self._name_of(one) for one in arrivals]
        self._objects.put(dict(zip(names, files, strict=True)))
        rows = [self._row(one, at, len(data)) for one, at, data in zip(arrivals, received, files, strict=True)]
        try:
            return self._enter(rows)
        except IntegrityError:
            return [self._enter_one(row) for row in rows]

    def _enter(self, rows: Sequence[dict[str, Any]]) -> list[Fate]:
        """Insert rows, all but those of frames that are withheld, whose files are removed."""
        with self._index.write() as connection:
            reasons = withheld(connection, [(row["camera"], row["captured"]) for row in rows])
            fates: list[Fate] = [reasons.get((row["camera"], row["captured"]), "stored") for row in rows]
            fresh = [row for row, fate in zip(rows, fates, strict=True) if fate == "stored"]
            if fresh:
                connection.execute(frames.insert(), fresh)
        withheld_ = [row for row, fate in zip(rows, fates, strict=True) if fate != "stored"]
        self._objects.delete([self._name(row["camera"], row["id"], row["sha256"]) for row in withheld_])
        return fates

    def _enter_one(self, row: dict[str, Any]) -> Fate:
        try:
            return self._enter([row])[0]
        except IntegrityError:
            return "duplicate"

    def counts(self) -> dict[str, Counts]:
        """Return the counts of every camera that has frames; held-out frames never wait for a round."""
        return frame_counts(self._index)

    # Reading

    def select(
        self, camera: str, condition: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int | None
    ) -> list[StoredFrame]:
        """Return at most `limit` of a camera's stored frames that meet `condition`, in `order`."""
        query = frames.select().where(frames.c.camera == camera, frames.c.state == "stored", condition)
        with self._index.read() as connection:
            rows = connection.execute(query.order_by(order, frames.c.id).limit(limit)).all()
            reading = Reading(connection, rows)
        return self._readable(rows, reading)

    def get(self, ids: Collection[str]) -> list[StoredFrame]:
        """Return the frames of those names that are still stored, in the order named."""
        query = frames.select().where(stored_among(ids))
        with self._index.read() as connection:
            rows = connection.execute(query).all()
            reading = Reading(connection, rows)
        found = {frame.id: frame for frame in self._readable(rows, reading)}
        return [found[name] for name in ids if name in found]

    def _readable(self, rows: Sequence[Any], reading: Reading) -> list[StoredFrame]:
        """Return the frames of rows; one that cannot be decoded is put aside, so that it never stops a round."""
        found = []
        for row in rows:
            try:
                found.append(stored(row, reading))
            except (msgspec.MsgspecError, ProtocolError, TypeError):
                self.put_aside(row)
        return found

    def jpeg(self, frame: StoredFrame) -> bytes | None:
        """Return a frame's picture; None if it cannot be read or is another than was stored: the frame is put aside."""
        try:
            if (data := self.picture(frame.camera, frame.id, frame.sha256)) is not None:
                return data
        except LostError as error:  # one bad sector must not stop every round
            log.error("frame_read_failed", camera=frame.camera, frame=frame.id, error=str(error))
        self.put_aside(frame)
        return None

    def picture(self, camera: str, name: str, sha256: str) -> bytes | None:
        """Return the picture of a frame; None if it is another than was stored. Raises LostError where it is gone."""
        try:
            sealed = self._objects.get(self._name(camera, name, sha256))
        except LostError:
            if not self._objects.shared:
                raise
            sealed = self._local.get(self._name_here(camera, name))  # it came before there was a bucket
        data, _ = unseal(sealed)
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put_aside(self, frame: StoredFrame | sa.Row[Any]) -> None:
        """Take a frame whose picture cannot be used out of the store; its file is kept for inspection."""
        self._end([frame.id], "corrupt")
        for place, name in (
            (self._objects, self._name(frame.camera, frame.id, frame.sha256)),
            (self._local, self._name_here(frame.camera, frame.id)),
        ):
            place.move(name, self._aside(name))
        log.error("frame_put_aside", camera=frame.camera, frame=frame.id)

    # Upkeep

    def reconcile(self) -> Reconciled:
        """Settle the files that no row names. Run it before frames come in.

        A file may lack its row because the power went in between, or because the index is older than the frames: its
        row is written again from the file. Nothing that was acknowledged is unlinked: only what a row says is gone.
        Raises StorageError where more files can be neither named nor read than a power cut leaves. A bucket is not
        looked through: others write there at this moment, see `objects/orphans.py`.
        """
        if self._objects.shared:
            return Reconciled()
        fates = {path: self._fate(path) for path in self.unnamed()}
        unknown = [path for path, fate in fates.items() if fate == "quarantine"]
        if len(unknown) > MOST_UNKNOWN:
            raise StorageError(
                f"{self._folder}: {len(unknown)} files have no row in the index and no record of their own, first "
                f"{unknown[0].name}: restore the index, or move these files away"
            )
        for path, fate in fates.items():  # read again where it is indexed: not all pictures fit into memory
            self._settle(path, fate)
        return Reconciled(*(sum(fate == one for fate in fates.values()) for one in get_args(Leftover)))

    def unnamed(self) -> Iterator[Path]:
        """Yield every file below the folder of frames that no stored frame names."""
        with _guarded(self._folder):
            for folder in sorted(self._folder.iterdir()) if self._folder.exists() else ():
                query = sa.select(frames.c.id).where(frames.c.camera == folder.name, frames.c.state == "stored")
                with self._index.read() as connection:
                    known = {f"{name}.jpg" for (name,) in connection.execute(query)}
                yield from (path for path in sorted(folder.iterdir()) if path.name not in known)

    def _fate(self, path: Path) -> Leftover:
        """Return what to do with a file that no stored frame names."""
        if path.suffix != ".jpg" or self._is_gone(path.stem):  # a write that was cut short, a removal likewise
            return "remove"
        return "quarantine" if self._arrival(path) is None else "reindex"

    def _arrival(self, path: Path) -> tuple[Arrival, float] | None:
        """Return what a file says of itself, and when it came; None where it is not what its name and record say."""
        with _guarded(path):
            jpeg, record = unseal(path.read_bytes())
        if record is None or record.frame.camera != path.parent.name:
            return None
        arrival = Arrival(record.edge_key, record.frame, jpeg)
        whole = hashlib.sha256(jpeg).hexdigest() == record.frame.sha256
        return (arrival, record.received) if whole and arrival.name == path.stem else None

    def _settle(self, path: Path, fate: Leftover) -> None:
        if fate == "remove":
            with _guarded(path):
                path.unlink()
        elif (found := self._arrival(path)) is not None:
            if self._enter_one(self._row(*found, path.stat().st_size)) == "stored":
                log.info("frame_reindexed", camera=path.parent.name, frame=path.stem)
        else:
            self._quarantine_file(path)
            log.warning("file_quarantined", camera=path.parent.name, file=path.name)

    def settle_object(self, name: str) -> Leftover | None:
        """Settle an object of a shared place that no stored frame named; return what was done, None where one does now.

        Raises StorageError.
        """
        jpeg, record = unseal(data := self._objects.get(name))
        arrival = None if record is None else Arrival(record.edge_key, record.frame, jpeg)
        if record is None or arrival is None or name != self._name_of(arrival):
            self._objects.move(name, self._aside(name))
            log.warning("file_quarantined", camera=name.split("/")[1], file=name.rpartition("/")[2])
            return "quarantine"
        if self._enter_one(self._row(arrival, record.received, len(data))) == "stored":
            log.info("frame_reindexed", camera=arrival.frame.camera, frame=arrival.name)
            return "reindex"
        if [frame.sha256 for frame in self.get([arrival.name])] == [arrival.frame.sha256]:
            return None  # its edge sent it again meanwhile
        self._objects.delete([name])  # its row says that it is gone, or has another picture
        return "remove"

    def _is_gone(self, name: str) -> bool:
        with self._index.read() as connection:
            state = connection.execute(sa.select(frames.c.state).where(frames.c.id == name)).scalar()
            return state in ("expired", "purged")

    def _quarantine_file(self, path: Path) -> None:
        with _guarded(path):
            if path.exists():
                self._quarantine.mkdir(exist_ok=True)
                path.replace(self._quarantine / path.name)

    def remove(self, camera: str, names: Collection[str]) -> None:
        """As `remove_all`, for frames of one camera."""
        self.remove_all({camera: names})

    def remove_all(self, names: Mapping[str, Collection[str]]) -> None:
        """Remove frames, by camera, for good: first what the rows hold, then the files; their names stay known."""
        every = [(camera, name) for camera, mine in names.items() for name in mine]
        self._end([name for _, name in every], "expired")
        self._local.delete([self._name_here(*one) for one in every])
        if self._objects.shared:
            hashes = self.known([name for _, name in every])
            self._objects.delete([self._name(*one, hashes[one[1]]) for one in every if one[1] in hashes])

    def _end(self, names: Collection[str], state: str) -> None:
        with self._index.write() as connection:
            ended = frames.update().where(stored_among(names))
            gone = dict.fromkeys(("detections", "features", "labels", "ignored", "shadow", "echo"))
            connection.execute(ended.values(state=state, bytes=0, **gone))
            for table in (scores, shelf, changes, ignores, teacher_features):
                connection.execute(table.delete().where(table.c.frame.in_(names)))
            reviews.forget(connection, names)

    def _row(self, arrival: Arrival, received: float, size: int) -> dict[str, Any]:
        frame = arrival.frame
        told = {field: getattr(frame, field) for field in frame.__struct_fields__}
        told["detections"] = msgspec.msgpack.encode(frame.detections)
        told["ignored"] = ignored.encode(frame.ignored)
        told["echo"] = frame.echo or None
        told["features"] = None if frame.features is None else msgspec.msgpack.encode(frame.features)
        told["shadow"] = None if frame.shadow is None else msgspec.msgpack.encode(frame.shadow)
        told |= {"id": arrival.name, "edge_key": arrival.edge_key, "state": "stored", "received": received}
        guard = is_guard(frame.camera, frame.captured, self._block_s, self._guard_s)
        apart = guard or is_held_out(frame.camera, frame.captured, self._block_s)
        return {**told, "bytes": size, "held_out": apart, "guard": guard}

    def block(self, frame: StoredFrame) -> int:
        """Return the number of the block of time, since the epoch, that a frame is of."""
        return int(frame.captured // self._block_s)

    def path(self, camera: str, name: str) -> Path:
        """Return where the picture of a frame lies, or would, in the data folder."""
        return self._folder / camera / f"{name}.jpg"

    def place(self, camera: str, name: str) -> str:
        """Return where a person finds the picture of a stored frame: its path, or its URL."""
        return self._objects.place(self._name(camera, name, self.known([name]).get(name, "")))

    def _name_of(self, arrival: Arrival) -> str:
        return self._name(arrival.frame.camera, arrival.name, arrival.frame.sha256)

    def _name(self, camera: str, name: str, sha256: str) -> str:
        return self._name_here(camera, f"{name}-{sha256[:16]}" if self._objects.shared else name)

    def _name_here(self, camera: str, name: str) -> str:
        return f"{self._folder.name}/{camera}/{name}.jpg"

    def _aside(self, name: str) -> str:
        return f"{self._quarantine.name}/{name.rpartition('/')[2]}"


def _later(before: float, now: float) -> float:
    return max(now, math.nextafter(before, math.inf))


def _sealed(arrival: Arrival, received: float) -> bytes:
    return seal(arrival.jpeg, FrameRecord(arrival.edge_key, received, arrival.frame))


def stored(row: Any, reading: Reading) -> StoredFrame:
    """Return the frame of a row of the index.

    Raises msgspec.MsgspecError, ProtocolError or TypeError for one that is damaged.
    """
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
        guard=bool(row.guard),
        detections=reading.found(row),
        features=None if row.features is None else msgspec.msgpack.decode(row.features, type=WireFeatures),
        labels=reading.labels(row),
        probability=row.probability,
        ignored=ignored.decode(row.ignored),
        echo=reading.echo(row),
        answered=bool(row.answered),
        classes=reading.classes(row.camera),
    )


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot clean up {path}: {error.strerror}") from error
