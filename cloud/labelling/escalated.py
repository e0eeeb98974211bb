"""What edges ask the teacher about while a record waits: questions in the index, answered by whoever labels.

Ingests write the questions and read the answers; workers take them before any batch. There may be several of either, in
processes of their own. A question that is overdue is nobody's any more, and its picture goes with its end.

Answers stay for a while without their pictures: a frame that is forwarded as well has the same JPEG, and is not paid
for twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.history import KEEP_MINUTES
from culling.cloud.store.index import ESCALATED, Index, escalations
from culling.cloud.store.index import answers as counted
from culling.common.clock import Clock
from culling.common.frame import Detections
from culling.common.wire.messages import WireDetections, from_wire, to_wire

KEPT_S = 7200.0
"""Two of the edge's windows at the default: a frame that is held until its window ends comes within one."""

UNREADABLE = "unreadable"
"""Why a question has no answer whose picture could not be decoded."""


@dataclass(frozen=True)
class Question:
    """A picture that the teacher is asked about, as JPEG, and the classes that the answer is to be in."""

    id: int
    camera: str
    classes: tuple[str, ...]
    jpeg: bytes


@dataclass(frozen=True)
class Answered:
    """What the `teacher` of that name found, labels by the question's classes; None: there is no answer, and why."""

    detections: WireDetections | None
    teacher: str
    reason: str


@dataclass(frozen=True)
class Known:
    """What the teacher `found` in a picture that it was asked about, and whether it said so `in_time`."""

    found: Detections
    in_time: bool


class Escalated:
    """The questions in the index. Safe to use from several threads and processes; all methods raise StorageError."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    # Ingests

    def ask(
        self, camera: str, boot: str, seq: int, sha256: str, jpeg: bytes, classes: Sequence[str], within_s: float
    ) -> int | None:
        """Write a question that is to be answered within so many seconds; return its id, None if it came before."""
        now = self._clock.now()
        row = {
            "camera": camera,
            "boot": boot,
            "seq": seq,
            "asked": now,
            "until": now + within_s,
            "sha256": sha256,
            "classes": _text(classes),
            "jpeg": jpeg,
        }
        try:
            with self._index.write() as connection:
                done = connection.execute(escalations.insert().values(**row))
        except IntegrityError:
            return None
        assert done.inserted_primary_key is not None
        return int(done.inserted_primary_key[0])

    def answered(self, ids: Collection[int]) -> dict[int, Answered]:
        """Return the answers that there are to those questions."""
        columns = (escalations.c.id, escalations.c.found, escalations.c.teacher)
        query = sa.select(*columns).where(escalations.c.id.in_(ids), escalations.c.teacher.is_not(None))
        with self._index.read() as connection:
            return {row.id: _answered(row) for row in connection.execute(query)}

    def tidy(self) -> None:
        """Forget the pictures of questions that are overdue, and answers that are old."""
        now = self._clock.now()
        overdue, old = sa.and_(ESCALATED, escalations.c.until <= now), escalations.c.asked < now - KEPT_S
        with self._index.read() as connection:
            if connection.execute(sa.select(escalations.c.id).where(overdue | old).limit(1)).first() is None:
                return
        with self._index.write() as connection:
            connection.execute(escalations.update().where(overdue).values(jpeg=None))
            connection.execute(escalations.delete().where(old))
            connection.execute(counted.delete().where(counted.c.minute < now // 60 - KEEP_MINUTES))

    # Workers

    @property
    def waiting(self) -> bool:
        """Whether a question waits that nobody has taken."""
        with self._index.read() as connection:
            return connection.execute(sa.select(escalations.c.id).where(self._open()).limit(1)).first() is not None

    def take(self, most: int) -> list[Question]:
        """Take the oldest questions, `most` of them at most; none is ever taken twice, not even after its taker died.

        A picture that kills its worker would kill the next one too, and by then nobody waits for it.
        """
        query = sa.select(escalations).where(self._open()).order_by(escalations.c.asked, escalations.c.id).limit(most)
        with self._index.write() as connection:
            rows = connection.execute(query).all()
            mine = escalations.c.id.in_([row.id for row in rows])
            connection.execute(escalations.update().where(mine).values(taken=self._clock.now()))
        return [Question(row.id, row.camera, tuple(msgspec.json.decode(row.classes)), row.jpeg) for row in rows]

    def answer(self, answers: Mapping[int, Detections | None], teacher: str) -> None:
        """Keep what the teacher of that name found, by question; None where the picture could not be decoded.

        Those that it looked at are counted.
        """
        now = self._clock.now()
        with self._index.write() as connection:
            _count(connection, [name for name, found in answers.items() if found is not None], int(now // 60))
            for name, found in answers.items():
                told = None if found is None else msgspec.msgpack.encode(to_wire(found))
                mine = escalations.update().where(escalations.c.id == name)
                connection.execute(mine.values(found=told, teacher=teacher, answered=now, jpeg=None))

    def known(self, sha256s: Collection[str], classes: Sequence[str], teacher: str, since: float) -> dict[str, Known]:
        """Return what that teacher found in pictures of these hashes that were asked about `since` then, by the same
        classes.
        """
        in_time = (escalations.c.answered < escalations.c.until).label("in_time")
        columns = (escalations.c.sha256, escalations.c.found, in_time)
        same = (escalations.c.classes == _text(classes)) & (escalations.c.teacher == teacher)
        same &= escalations.c.asked >= since
        query = sa.select(*columns).where(escalations.c.sha256.in_(sha256s), same, escalations.c.found.is_not(None))
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        return {
            row.sha256: Known(from_wire(msgspec.msgpack.decode(row.found, type=WireDetections)), bool(row.in_time))
            for row in rows
        }

    def _open(self) -> sa.ColumnElement[bool]:
        return sa.and_(ESCALATED, escalations.c.until > self._clock.now(), escalations.c.taken.is_(None))


def _count(connection: sa.Connection, names: Collection[int], minute: int) -> None:
    """Add those questions to what was answered of their cameras within the minute."""
    of = escalations.c.camera, sa.func.count().label("frames")
    query = sa.select(*of).where(escalations.c.id.in_(names)).group_by(escalations.c.camera)
    for row in connection.execute(query).all():
        mine = (counted.c.camera == row.camera) & (counted.c.minute == minute)
        more = counted.update().where(mine).values(frames=counted.c.frames + row.frames)
        if connection.execute(more).rowcount == 0:
            connection.execute(counted.insert().values(camera=row.camera, minute=minute, frames=row.frames))


def _text(classes: Sequence[str]) -> str:
    return msgspec.json.encode(list(classes)).decode()


def _answered(row: Any) -> Answered:
    found = None if row.found is None else msgspec.msgpack.decode(row.found, type=WireDetections)
    return Answered(found, row.teacher or "", "" if found is not None else UNREADABLE)
