"""Rounds: what was begun, written down so that a restart goes on from there.

A round is `running` while its child process works, `ready` when it made a model that passed the gate, and ends
`published`, `refused` (with the gate's reason) or `failed`. Every finished stage leaves its result in the round's row,
and is not done again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.store.index import Index, cameras, rounds

log = structlog.get_logger(__name__)

UNFINISHED = ("running", "ready")
STOPPED = 75
"""Exit code of a round's process that was told to stop: there is more to do (EX_TEMPFAIL)."""

MAX_CRASHES = 3
"""A process that died by accident gets through at the next try; one that died three times will die again."""


@dataclass(frozen=True)
class Round:
    """One round; times are seconds since the epoch, `stages` maps a finished stage to its result."""

    id: int
    camera: str
    trigger: str
    state: str
    started: float
    finished: float | None
    crashes: int
    stages: dict[str, Any]
    report: dict[str, Any]
    reason: str
    model_id: str | None


class Rounds:
    """The rounds in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def start(self, camera: str, trigger: str, at: float) -> Round:
        """Enter a new round."""
        with self._index.write() as connection:
            row = {"camera": camera, "trigger": trigger, "state": "running", "started": at, "crashes": 0}
            done = connection.execute(rounds.insert().values(**row, stages="{}", report="{}", reason=""))
            assert done.inserted_primary_key is not None
            return self._get(connection, int(done.inserted_primary_key[0]))

    def get(self, round_id: int) -> Round:
        """Return a round that exists."""
        with self._index.read() as connection:
            return self._get(connection, round_id)

    def all(self, camera: str | None = None, limit: int = 1000, of: Collection[str] | None = None) -> list[Round]:
        """Return the newest rounds, newest first: of one camera, or of those in `of`."""
        query = rounds.select().order_by(rounds.c.id.desc()).limit(limit)
        if of is not None:
            query = query.where(rounds.c.camera.in_(sorted(of)))
        if camera is not None:
            query = query.where(rounds.c.camera == camera)
        with self._index.read() as connection:
            return [_round(row) for row in connection.execute(query)]

    def unfinished(self) -> list[Round]:
        """Return the rounds that are running or ready, oldest first."""
        query = rounds.select().where(rounds.c.state.in_(UNFINISHED)).order_by(rounds.c.id)
        with self._index.read() as connection:
            return [_round(row) for row in connection.execute(query)]

    def last_finished(self) -> dict[str, float]:
        """Return when the last round of each enrolled camera ended, of those that had one; seconds since the epoch."""
        last = sa.select(sa.func.max(rounds.c.finished)).where(rounds.c.camera == cameras.c.name).scalar_subquery()
        with self._index.read() as connection:
            found = connection.execute(sa.select(cameras.c.name, last)).all()
        return {camera: at for camera, at in found if at is not None}

    def taught(self) -> frozenset[str]:
        """Return the enrolled cameras that had a round which found something to teach, whatever became of it, since
        their class list came into force.
        """
        mine = (rounds.c.camera == cameras.c.name) & rounds.c.finished.is_not(None)
        mine &= rounds.c.started >= sa.func.coalesce(cameras.c.class_list_since, 0.0)
        found = sa.exists().where(mine, rounds.c.stages.contains('"cull":'))
        with self._index.read() as connection:
            return frozenset(connection.execute(sa.select(cameras.c.name).where(found)).scalars())

    def newest_capture(self, camera: str, model_id: str) -> float | None:
        """Return when the last frame was captured that a round's model was trained on; None for any other model."""
        query = rounds.select().where(rounds.c.camera == camera, rounds.c.model_id == model_id)
        with self._index.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _round(row).report.get("newest_capture")

    def save_stage(self, round_id: int, stage: str, result: dict[str, Any]) -> None:
        """Keep a stage's result; it counts as done from then on."""
        with self._index.write() as connection:
            stages = self._get(connection, round_id).stages | {stage: result}
            running = _of(round_id).where(rounds.c.state.in_(UNFINISHED))  # of a camera that was removed, nothing stays
            connection.execute(running.values(stages=msgspec.json.encode(stages).decode()))

    def end(self, round_id: int, state: str, report: dict[str, Any], reason: str = "", at: float | None = None) -> None:
        """Move a running round to `ready`, or end it as `refused` or `failed`."""
        with self._index.write() as connection:
            text = msgspec.json.encode(report).decode()
            running = _of(round_id).where(rounds.c.state.in_(UNFINISHED))
            connection.execute(running.values(state=state, report=text, reason=reason, finished=at))

    def begin(self, round_id: int) -> bool:
        """Note that a process works on a round; return whether the end of the one before it was never noted."""
        with self._index.write() as connection:
            was = connection.execute(sa.select(rounds.c.working).where(rounds.c.id == round_id)).scalar()
            connection.execute(_of(round_id).values(working=True))
            return bool(was)

    def leave(self, round_id: int) -> None:
        """Note that no process works on a round any more: it said so itself, or the service saw its end."""
        with self._index.write() as connection:
            connection.execute(_of(round_id).values(working=False))

    def crashed(self, round_id: int) -> int:
        """Count a child process that died; return how many have."""
        with self._index.write() as connection:
            connection.execute(_of(round_id).values(crashes=rounds.c.crashes + 1))
            return self._get(connection, round_id).crashes

    def _get(self, connection: sa.Connection, round_id: int) -> Round:
        return _round(connection.execute(rounds.select().where(rounds.c.id == round_id)).one())


def _of(round_id: int) -> sa.Update:
    return rounds.update().where(rounds.c.id == round_id)


def _round(row: Any) -> Round:
    fields = {name: value for name, value in row._mapping.items() if name != "working"}
    return Round(**{**fields, "stages": _decoded(row, "stages"), "report": _decoded(row, "report")})


def _decoded(row: Any, column: str) -> dict[str, Any]:
    """Return a JSON column; an unreadable one counts as empty, so that one rotten row never stops every round."""
    try:
        return msgspec.json.decode(getattr(row, column), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        log.error("round_record_unreadable", round=row.id, camera=row.camera, column=column)
        return {}
