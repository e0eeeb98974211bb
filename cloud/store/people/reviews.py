"""What a person said of a frame: its boxes, or that it needs no look again; who it was, and when.

A person's labels take the place of the teacher's in the frame's row, with a score of 1 each, so that whatever reads
labels follows them: rounds, gate, measured accuracy, page. What the teacher had said, or says later, stays beside them.

    corrected   the boxes are the person's own        student   those of the student were right
    teacher     those of the teacher were right       skipped   nothing is said, but the frame was looked at
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import sqlalchemy as sa

from culling.cloud.store.classes.lists import FIRST, Reading, all_lists, current, detections, number
from culling.cloud.store.index import Index, frames, reviews, stored_among
from culling.cloud.store.people import ignores
from culling.common.errors import InputError, ProtocolError
from culling.common.frame import Detections
from culling.common.wire import ignored
from culling.common.wire.messages import MAX_BOXES, to_wire

Decision: TypeAlias = Literal["corrected", "teacher", "student", "skipped"]
OVERRULES = tuple(one for one in get_args(Decision) if one != "skipped")

PARTS = ("boxes", "scores", "labels")

AT_ONCE = 500
"""Names in one query: databases limit how many."""


class DecidedError(InputError):
    """Somebody decided a frame after it was shown to whoever decides it now."""


@dataclass(frozen=True)
class Said:
    """What a person said of one frame; `labels` are None where it was skipped."""

    decision: Decision
    labels: Detections | None = None


@dataclass(frozen=True)
class Review:
    """What was said of a frame, by whom and when (seconds since the epoch); `teacher` is what that had said, None where
    it has not looked, or was not overruled.
    """

    frame: str
    decision: Decision
    who: str
    at: float
    teacher: Detections | None


def by_a_person() -> sa.ColumnElement[bool]:
    """Return the condition that a frame's labels are a person's."""
    return sa.exists().where(reviews.c.frame == frames.c.id, reviews.c.decision.in_(OVERRULES))


def reviewed() -> sa.ColumnElement[bool]:
    """Return the condition that a person has looked at a frame."""
    return sa.exists().where(reviews.c.frame == frames.c.id)


class Reviews:
    """What people said of the frames in the index. Safe to use from several threads and processes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of(self, camera: str, names: Collection[str]) -> dict[str, Review]:
        """Return what was said of those frames of a camera, by frame."""
        found: dict[str, Review] = {}
        with self._index.read() as connection:
            for some in _parts(names):
                query = reviews.select().where(reviews.c.camera == camera, reviews.c.frame.in_(some))
                rows = connection.execute(query).all()
                reading = Reading(connection, rows)
                found |= {row.frame: _review(row, reading) for row in rows}
        return found

    def newest(self, camera: str, most: int) -> list[Review]:
        """Return who gave labels to a camera's frames last, the newest first, at most so many."""
        mine = (reviews.c.camera == camera) & reviews.c.decision.in_(OVERRULES)
        with self._index.read() as connection:
            newest = reviews.select().where(mine).order_by(reviews.c.at.desc(), reviews.c.frame).limit(most)
            rows = connection.execute(newest).all()
            reading = Reading(connection, rows)
        return [_review(row, reading) for row in rows]

    def last(self, camera: str) -> float | None:
        """Return when a person last said something of a camera's frames, or had a place of one ignored."""
        query = sa.select(sa.func.max(reviews.c.at)).where(reviews.c.camera == camera)
        with self._index.read() as connection:
            said = connection.execute(query).scalar()
        told = (said, ignores.last_ignored(self._index, camera))
        return max((at for at in told if at is not None), default=None)

    def enter(
        self,
        camera: str,
        said: Mapping[str, Said],
        who: str,
        at: float,
        also: Callable[[int], None],
        places: Mapping[str, ignored.Ignored | None] | None = None,
        seen: Mapping[str, float | None] | None = None,
    ) -> list[str]:
        """Keep what was said of frames, by frame, all of it or nothing; return the frames of which it was new.

        `seen` says of some of them when they were decided last as far as whoever decides knows, None: never. `places`
        are what is to be ignored in others, as `ignores.enter` has it. `also` is called with how many those
        are, before that becomes durable, if there are any. Raises InputError for a frame that is not a stored one of
        that camera, or that is skipped although a person gave it labels, DecidedError for one that was decided since.
        """
        for name, one in said.items():
            if one.labels is not None and len(one.labels) > MAX_BOXES:
                raise InputError(f"frame {name}: {len(one.labels)} boxes; a frame may have {MAX_BOXES}")
        with self._index.write() as connection:
            _check_seen(connection, seen or {})
            new = [name for some in _parts(said) for name in _enter(connection, camera, some, said, who, at)]
            new += ignores.enter(connection, camera, places or {}, who, at)
            if new:
                also(len(new))
        return new


def _check_seen(connection: sa.Connection, seen: Mapping[str, float | None]) -> None:
    for some in _parts(seen):
        known = sa.select(reviews.c.frame, reviews.c.at).where(reviews.c.frame.in_(some))
        for name, at in connection.execute(known):
            if at != seen[name]:
                when = datetime.fromtimestamp(at)
                raise DecidedError(f"frame {name}: somebody decided this frame at {when:%H:%M}: look again")


def keep_teachers(connection: sa.Connection, labels: Mapping[str, bytes], lists: Mapping[str, int]) -> set[str]:
    """Keep what the teacher says of frames that a person labelled, beside that; return which frames these are.

    `lists` are the numbers of the class lists of what it says, by frame.
    """
    kept: set[str] = set()
    for some in _parts(labels):
        theirs = reviews.c.frame.in_(some) & reviews.c.decision.in_(OVERRULES)
        kept.update(connection.execute(sa.select(reviews.c.frame).where(theirs)).scalars())
    for name in kept:
        connection.execute(
            reviews.update().where(reviews.c.frame == name).values(teacher=labels[name], class_list=lists[name])
        )
    return kept


def forget(connection: sa.Connection, names: Collection[str]) -> None:
    """Delete what was said of frames."""
    for some in _parts(names):
        connection.execute(reviews.delete().where(reviews.c.frame.in_(some)))


def _enter(
    connection: sa.Connection, camera: str, some: Collection[str], said: Mapping[str, Said], who: str, at: float
) -> list[str]:
    columns = (frames.c.id, frames.c.labels, frames.c.class_list, frames.c.ignored, frames.c.width, frames.c.height)
    stored = sa.select(*columns).where(stored_among(some, camera))
    known = {row.id: row for row in connection.execute(stored)}
    classes = current(connection, camera)
    lists, in_force = all_lists(connection), number(connection, classes)
    before = {row.frame: row for row in connection.execute(reviews.select().where(reviews.c.frame.in_(some)))}
    new = []
    for name in some:
        if name not in known:
            raise InputError(f"camera {camera} has no stored frame {name}: nothing is taken over")
        labels, by = known[name].labels, known[name].class_list
        values = _values(said[name], known[name], before.get(name), lists[by or FIRST], classes)
        if values is None:
            continue
        blob, teacher = values
        if blob is not None:
            unread = {"round": None} if labels is None else {}  # what nobody had labelled waits for a round
            changed = {"labels": blob, "class_list": in_force, **unread}
            connection.execute(frames.update().where(frames.c.id == name).values(**changed))
        row = {"camera": camera, "decision": said[name].decision, "who": who, "at": at, "teacher": teacher}
        kept = before[name].class_list if name in before and before[name].decision in OVERRULES else by
        row["class_list"] = kept if teacher is not None else None
        connection.execute(reviews.delete().where(reviews.c.frame == name))
        connection.execute(reviews.insert().values(frame=name, **row))
        new.append(name)
    return new


def _values(
    said: Said,
    frame: sa.Row[*tuple[Any, ...]],
    before: sa.Row[tuple[object, ...]] | None,
    made_for: Sequence[str],
    classes: Sequence[str],
) -> tuple[bytes | None, bytes | None] | None:
    """Return a frame's new labels, by `classes`, and what the teacher had said; None where nothing is new.

    The labels that it has were `made_for` another list, maybe.
    """
    overruled = before is not None and before.decision in OVERRULES
    if said.labels is None:
        if overruled:
            raise InputError(f"frame {frame.id} has a person's labels: it cannot be skipped any more")
        return None if before is not None else (None, None)
    blob = msgspec.msgpack.encode(to_wire(_certain(said.labels, frame, made_for, classes)))
    if overruled and blob == frame.labels:
        return None
    return blob, (before.teacher if overruled and before is not None else frame.labels)


def _certain(
    said: Detections, frame: sa.Row[*tuple[Any, ...]], made_for: Sequence[str], classes: Sequence[str]
) -> Detections:
    """Return a person's boxes, certain; in places that the camera ignores, where nobody draws, the labels stay."""
    boxes = [said]
    if (places := ignored.decode(frame.ignored)) and (known := _read(frame.labels)) is not None:
        labels = known.among(made_for, classes)
        there, drawn = (ignored.standing(places, one, classes, frame.width, frame.height) for one in (labels, said))
        boxes = [said.where(~drawn), labels.where(there)]
    every = Detections(*(np.concatenate([getattr(one, part) for one in boxes]) for part in PARTS))
    return Detections(every.boxes, np.ones(len(every), np.float32), every.labels)


def _review(row: sa.Row[tuple[object, ...]], reading: Reading) -> Review:
    return Review(row.frame, row.decision, row.who, row.at, _teachers(row, reading))


def _teachers(row: sa.Row[tuple[object, ...]], reading: Reading) -> Detections | None:
    if row.teacher is None:
        return None
    try:
        return reading.translated(row.camera, row.teacher, row.class_list)
    except (msgspec.MsgspecError, ProtocolError, TypeError):  # a damaged one must not stop what reads the others
        return None


def _read(blob: bytes | None) -> Detections | None:
    try:
        return None if blob is None else detections(blob)
    except (msgspec.MsgspecError, ProtocolError, TypeError):
        return None


def _parts(names: Collection[str]) -> list[list[str]]:
    wanted = sorted(names)
    return [wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)]
