"""What the law asks for: everything that was recorded by a camera is removed, or all of it before a date.

A purge is remembered in the index, in the transaction that deletes the rows: what a spool, a file without a row or a
repeat would bring back later is refused, and a purge that was cut short goes on when it is repeated. Each one is a line
in `audit.log` of the data folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Literal, TypeAlias

import sqlalchemy as sa
import structlog

from culling.cloud.store.index import Index, cameras, frames, history, models, purges, requests, rounds, swaps, wishes
from culling.cloud.store.picture import unseal
from culling.cloud.store.rounds import UNFINISHED
from culling.common.errors import InputError, StorageError

AUDIT = "audit.log"
Withheld: TypeAlias = Literal["camera-removed", "purged"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Purged:
    """How much of a camera was removed; `unreadable` files of the quarantine say nothing of their camera, and stay."""

    rows: int
    pictures: int
    labels: int
    history: int
    records: int
    unreadable: int


def purge(index: Index, data_dir: Path, camera: str, before: float | None, now: float) -> Purged:
    """Remove what `camera` recorded before that time, or all of it for None; times are seconds since the epoch.

    With None its finished rounds, swaps and answered requests go too, and its models once it is removed itself. Raises
    InputError for a camera of which nothing is known, or a time to come, and StorageError where a file cannot be
    removed; repeat the purge then.
    """
    if before is not None and before > now:
        raise InputError("--before: that time lies in the future; give one that has passed")
    until = inf if before is None else before
    with index.write() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
        if not _is_known(connection, camera) and not (data_dir / "frames" / camera).is_dir():
            raise InputError(f"there is no camera {camera}, and nothing of one: see `culling cloud status`")
        remember(connection, camera, before=now if before is None else before)
        mine = (frames.c.camera == camera) & ((frames.c.captured < until) | (frames.c.received < until))
        labelled = frames.c.labels.is_not(None)
        labels = connection.execute(sa.select(sa.func.count()).select_from(frames).where(mine, labelled)).scalar_one()
        names = set(connection.execute(sa.delete(frames).where(mine).returning(frames.c.id)).scalars())
        minutes = (history.c.camera == camera) & (history.c.minute * 60 < until)
        told = connection.execute(sa.delete(history).where(minutes)).rowcount
        records = sum(connection.execute(query).rowcount for query in _records(connection, camera, until))
    pictures = _unlink(_pictures(data_dir / "frames" / camera, names, camera, until))
    pictures += _unlink(_pictures(data_dir / "corrupt", names, camera, until))
    purged = Purged(len(names), pictures, labels, told, records, sum(1 for _ in _unreadable(index, data_dir)))
    _audit(data_dir, camera, before, purged, now)
    return purged


def remember(connection: sa.Connection, camera: str, before: float = 0.0, removed: bool = False) -> None:
    """Refuse from now on what `camera` captured `before` a time, and with `removed` everything, until `readmit`."""
    row = connection.execute(purges.select().where(purges.c.camera == camera)).first()
    if row is None:
        connection.execute(purges.insert().values(camera=camera, before=before, removed=removed))
        return
    kept = {"before": max(row.before, before), "removed": row.removed or removed}
    connection.execute(purges.update().where(purges.c.camera == camera).values(**kept))


def readmit(connection: sa.Connection, camera: str) -> None:
    """Take frames of a camera that was removed again; not those from before its last purge."""
    connection.execute(purges.update().where(purges.c.camera == camera).values(removed=False))


def withheld(connection: sa.Connection, taken: Collection[tuple[str, float]]) -> dict[tuple[str, float], Withheld]:
    """Return which of the frames, by camera and time of capture, may not be stored, and why."""
    query = purges.select().where(purges.c.camera.in_({camera for camera, _ in taken}))
    rows = {row.camera: row for row in connection.execute(query)}
    reasons: dict[tuple[str, float], Withheld] = {}
    for camera, captured in taken:
        if camera in rows and rows[camera].removed:
            reasons[camera, captured] = "camera-removed"
        elif camera in rows and captured < rows[camera].before:
            reasons[camera, captured] = "purged"
    return reasons


def removed_cameras(connection: sa.Connection) -> frozenset[str]:
    """Return the names of the cameras that were removed and not added again."""
    return frozenset(connection.execute(sa.select(purges.c.camera).where(purges.c.removed)).scalars())


def _is_known(connection: sa.Connection, camera: str) -> bool:
    named = (cameras.c.name, purges.c.camera, frames.c.camera, history.c.camera)
    return any(connection.execute(sa.select(column).where(column == camera).limit(1)).first() for column in named)


def _records(connection: sa.Connection, camera: str, until: float) -> Iterator[sa.Delete]:
    """Yield what deletes the records of rounds, swaps and requests, and those of a removed camera's models."""
    over = (rounds.c.camera == camera) & rounds.c.state.not_in(UNFINISHED)
    yield sa.delete(rounds).where(over & (rounds.c.finished < until) & (rounds.c.reason != REMOVED))
    yield sa.delete(swaps).where((swaps.c.camera == camera) & (swaps.c.at < until))
    yield sa.delete(requests).where((requests.c.camera == camera) & (requests.c.done < until))
    if until == inf and camera in removed_cameras(connection):
        yield sa.delete(models).where(models.c.camera == camera)
        yield sa.delete(wishes).where(wishes.c.camera == camera)


REMOVED = "the camera was removed"
"""Why a round failed that was running at that moment; its process still writes to its record, which goes later."""


def _pictures(folder: Path, names: Collection[str], camera: str, until: float) -> Iterator[Path]:
    """Yield the files of frames with those names, and those whose own record says that they are to go."""
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        told = _told(path)
        unnamed = told is None and folder.name == camera and until == inf  # a write that was cut short, for example
        if path.stem in names or unnamed or (told is not None and told[0] == camera and told[1] < until):
            yield path


def _told(path: Path) -> tuple[str, float] | None:
    """Return which camera took the picture of a file, and when; None where the file does not say."""
    try:
        record = unseal(path.read_bytes())[1]
    except OSError:
        return None
    return None if record is None else (record.frame.camera, min(record.frame.captured, record.received))


def _unreadable(index: Index, data_dir: Path) -> Iterator[Path]:
    folder = data_dir / "corrupt"
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if _told(path) is None:
            with index.read() as connection:
                named = connection.execute(sa.select(frames.c.id).where(frames.c.id == path.stem)).first()
            if named is None:
                yield path


def _unlink(paths: Iterator[Path]) -> int:
    count = 0
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror}; repeat the purge") from error
        count += 1
    return count


def _audit(data_dir: Path, camera: str, before: float | None, purged: Purged, now: float) -> None:
    until = None if before is None else _iso(before)
    log.warning("camera_purged", camera=camera, before=until, **asdict(purged))
    line = {"at": _iso(now), "event": "camera_purged", "camera": camera, "before": until, **asdict(purged)}
    try:
        descriptor = os.open(data_dir / AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {data_dir / AUDIT}: {error.strerror}; the purge itself is done") from error


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
