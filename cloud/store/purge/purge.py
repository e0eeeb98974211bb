"""What the law asks for: everything that was recorded by a camera is removed, or all of it before a date.

A purge is remembered in the index, in the transaction that empties the rows: what a spool, a file without a row or a
repeat would bring back later is refused, and a purge that was cut short goes on when it is repeated. Of a frame only
its name, its picture's hash and its times are left, by which a repeat is recognised. Who did it, and when, stands in
the audit log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.store.features.features import FeatureStore
from culling.cloud.store.index import (
    Index,
    answers,
    cameras,
    changes,
    escalations,
    frames,
    history,
    ignores,
    looks,
    models,
    purges,
    requests,
    reviews,
    rounds,
    scores,
    shelf,
    swaps,
    teacher_features,
    trials,
    wishes,
)
from culling.cloud.store.objects.folder import Folder
from culling.cloud.store.objects.objects import LostError, Objects
from culling.cloud.store.people.deeds import record
from culling.cloud.store.picture import unseal
from culling.cloud.store.purge.audit import iso
from culling.cloud.store.purge.withheld import remember, removed_cameras
from culling.cloud.store.rounds import UNFINISHED
from culling.common.errors import InputError, StorageError

REMOVED = "the camera was removed"
"""Why a round failed that was running at that moment; its process still looks at its record, so that this stays."""

NOTHING = {"reason": "", "model_id": "", **dict.fromkeys(("frame", "pts", "captured", "loss", "width", "height"), 0)}
BLOBS = ("detections", "features", "labels", "ignored", "shadow", "echo")
EMPTY = {"bytes": 0, **dict.fromkeys((*BLOBS, "round", "kept", "probability")), **NOTHING}
"""A purged frame's row keeps its name, the picture's hash, when it came and when it was labelled, until it expires."""

CORRUPT = "corrupt"
"""Where files lie that cannot be used; see `frames.py`."""

IN_USE = ("live", "shadow", "previous")
NO_GOLDEN = msgspec.msgpack.encode(())

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Purged:
    """How much of a camera was removed.

    `unreadable` files of the quarantine say nothing of their camera, and stay. `models` in use carry a picture of the
    camera in their manifest, shrunk, until others take their place.
    """

    rows: int
    pictures: int
    labels: int
    history: int
    records: int
    unreadable: int
    models: int


def purge(
    index: Index, data_dir: Path, camera: str, before: float | None, now: float, objects: Objects | None = None
) -> Purged:
    """Remove what `camera` recorded before that time, or all of it for None; times are seconds since the epoch.

    With None its finished rounds, swaps and answered requests go too, and its models once it is removed itself. Raises
    InputError for a camera of which nothing is known, or a time to come, and StorageError where a file cannot be
    removed; repeat the purge then.
    """
    if before is not None and before > now:
        raise InputError("--before: that time lies in the future; give one that has passed")
    until = inf if before is None else before
    told: dict[str, Any] = {"camera": camera, "before": None if before is None else iso(before)}
    places: list[Objects] = [Folder(data_dir)]  # it has what came before there was a bucket
    places += [objects] if objects is not None and objects.shared else []
    theirs = f"frames/{camera}"
    with index.read() as connection:
        if not _is_known(connection, camera) and not any(next(place.list(theirs), None) for place in places):
            raise InputError(f"there is no camera {camera}, and nothing of one: see `culling cloud status`")
    record(index, data_dir, "camera_purge_began", now, **told)
    with index.write() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
        remember(connection, camera, before=now if before is None else before)
        names, labels = _empty_frames(connection, camera, until)
        minutes = (history.c.camera == camera) & (history.c.minute < until / 60)
        past = connection.execute(sa.delete(history).where(minutes)).rowcount
        records = sum(connection.execute(query).rowcount for query in _records(connection, camera, until))
        kept = _forget_golden(connection, camera, until)
    index.settle()
    folders = [(place, folder) for place in places for folder in (theirs, CORRUPT)]
    pictures = sum(_remove(place, _pictures(place, folder, names, camera, until)) for place, folder in folders)
    for place in places:
        FeatureStore(index, place).purge(camera)
    unreadable = sum(1 for place in places for _ in _unreadable(index, place))
    purged = Purged(len(names), pictures, labels, past, records, unreadable, kept)
    log.warning("camera_purged", **told, **asdict(purged))
    record(index, data_dir, "camera_purged", now, **told, **asdict(purged))
    return purged


def _is_known(connection: sa.Connection, camera: str) -> bool:
    named = (cameras.c.name, purges.c.camera, frames.c.camera, history.c.camera)
    return any(connection.execute(sa.select(column).where(column == camera).limit(1)).first() for column in named)


def _empty_frames(connection: sa.Connection, camera: str, until: float) -> tuple[set[str], int]:
    """Leave of every frame its name alone; return the names, and how many of them had labels."""
    mine = (frames.c.camera == camera) & (frames.c.state != "purged")
    mine &= (frames.c.captured < until) | (frames.c.received < until)  # a clock that is wrong keeps nothing
    labelled = sa.select(sa.func.count()).select_from(frames).where(mine, frames.c.labels.is_not(None))
    labels = connection.execute(labelled).scalar_one()
    emptied = sa.update(frames).where(mine).values(state="purged", **EMPTY).returning(frames.c.id)
    names = set(connection.execute(emptied).scalars())
    purged = sa.select(frames.c.id).where(frames.c.camera == camera, frames.c.state == "purged")
    for table in (scores, reviews, shelf, changes, ignores, teacher_features):
        connection.execute(sa.delete(table).where(table.c.frame.in_(purged)))
    return names, labels


def _records(connection: sa.Connection, camera: str, until: float) -> Iterator[sa.Update | sa.Delete]:
    """Yield what deletes the records of rounds, swaps and requests, and those of a removed camera's models."""
    over = (rounds.c.camera == camera) & rounds.c.state.not_in(UNFINISHED) & (rounds.c.finished < until)
    yield sa.delete(rounds).where(over & (rounds.c.reason != REMOVED))
    yield sa.update(rounds).where(over).values(stages="{}", report="{}")
    yield sa.delete(swaps).where((swaps.c.camera == camera) & (swaps.c.at < until))
    yield sa.delete(looks).where(looks.c.camera == camera)
    yield sa.delete(escalations).where(escalations.c.camera == camera)
    yield sa.delete(answers).where((answers.c.camera == camera) & (answers.c.minute < until / 60))
    yield sa.delete(requests).where((requests.c.camera == camera) & (requests.c.done < until))
    waits = trials.c.state == "waiting"  # with a picture of the camera
    yield sa.delete(trials).where((trials.c.camera == camera) & (waits | (trials.c.ended < until)))
    if until == inf and camera in removed_cameras(connection):
        yield sa.delete(models).where(models.c.camera == camera)
        yield sa.delete(wishes).where(wishes.c.camera == camera)
        yield sa.delete(trials).where(trials.c.camera == camera)


def _forget_golden(connection: sa.Connection, camera: str, until: float) -> int:
    """Take the pictures out of models that are out of use; return how many others carry one, signed with the model.

    A model's picture is the newest held-out one when it was made. A later model keeps it where a frame is left that
    came from `until` on and before the model was begun: its picture is at least as new.
    """
    mine = (models.c.camera == camera) & (models.c.golden != NO_GOLDEN)
    mine &= models.c.origin != "base"  # whose picture is of the bundled clip
    left = (frames.c.camera == camera) & frames.c.held_out & (frames.c.captured >= until) & (frames.c.state == "stored")
    newer = connection.execute(sa.select(sa.func.min(frames.c.received)).where(left)).scalar()
    begun = sa.func.min(sa.func.coalesce(rounds.c.started, models.c.created))  # one that was renewed has it since then
    query = sa.select(models.c.golden).outerjoin(rounds, models.c.round == rounds.c.id).where(mine)
    older = query.group_by(models.c.golden)
    if newer is not None:
        older = older.having(begun <= newer)
    with_picture = mine & ((models.c.created < until) | models.c.golden.in_(list(connection.execute(older).scalars())))
    unused = with_picture & models.c.state.not_in(IN_USE)
    connection.execute(sa.update(models).where(unused).values(golden=NO_GOLDEN, manifest=b""))
    return connection.execute(sa.select(sa.func.count()).select_from(models).where(with_picture)).scalar_one()


def _pictures(objects: Objects, folder: str, names: Collection[str], camera: str, until: float) -> Iterator[str]:
    """Yield the files of frames with those names, and those whose own record says that they are to go."""
    for item in objects.list(folder):
        if _frame_of(item.name) in names:  # no need to read it
            yield item.name
            continue
        told = _told(objects, item.name)
        unnamed = told is None and folder != CORRUPT and until == inf  # a write that was cut short, for example
        if unnamed or (told is not None and told[0] == camera and told[1] < until):
            yield item.name


def _frame_of(name: str) -> str:
    """Return the frame that the name of an object names."""
    return name.rpartition("/")[2].partition(".")[0].partition("-")[0]


def _told(objects: Objects, name: str) -> tuple[str, float] | None:
    """Return which camera took the picture of a file, and when; None where the file does not say."""
    try:
        sealed = unseal(objects.get(name))[1]
    except LostError:
        return None
    return None if sealed is None else (sealed.frame.camera, min(sealed.frame.captured, sealed.received))


def _unreadable(index: Index, objects: Objects) -> Iterator[str]:
    for item in objects.list(CORRUPT):
        if _told(objects, item.name) is None:
            with index.read() as connection:
                query = sa.select(frames.c.id).where(frames.c.id == _frame_of(item.name))
                named = connection.execute(query).first()
            if named is None:
                yield item.name


def _remove(objects: Objects, names: Iterator[str]) -> int:
    every = list(names)
    try:
        objects.delete(every)
    except StorageError as error:
        raise StorageError(f"{error}; repeat the purge") from error
    return len(every)
