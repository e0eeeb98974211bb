"""Rounds: what was begun, written down so that a restart goes on from there, under a lease.

A round is `running` while its child process works, `ready` when it made a model that passed the gate, and ends
`published`, `refused` (with the gate's reason) or `failed`. Every finished stage leaves its result in the round's row,
and is not done again.

Each process that is started for a round gets a lease of its own, and from then on no other writes the round: what a
process brings that was taken for dead, on this machine or another, is discarded (ADR 0021).
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.index import Index, cameras, rounds
from culling.common.errors import StorageError

log = structlog.get_logger(__name__)

UNFINISHED = ("running", "ready")
STOPPED = 75
"""Exit code of a round's process that was told to stop: there is more to do (EX_TEMPFAIL)."""

MAX_CRASHES = 3
"""A process that died by accident gets through at the next try; one that died three times will die again."""


class LeaseLostError(Exception):
    """Another process works on the round by now, or it is over: what this one brings is discarded."""


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


@dataclass(frozen=True)
class LastRound:
    """What a camera's last round that ended gained, in AP50 on held-out frames, and how many seconds it worked.

    One that published nothing gained nothing.
    """

    gained: float
    seconds: float


class Rounds:
    """The rounds in the index.

    Whoever works on one under a lease names it when he writes, and is answered by LeaseLostError when it is no longer
    his; without one (None) the service itself writes, which gives the leases.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def start(self, camera: str, trigger: str, at: float) -> Round:
        """Enter a new round. Raises StorageError while the camera has one that is not finished."""
        row = {"camera": camera, "trigger": trigger, "state": "running", "started": at, "crashes": 0}
        try:
            with self._index.write() as connection:
                done = connection.execute(rounds.insert().values(**row, stages="{}", report="{}", reason=""))
                assert done.inserted_primary_key is not None
                return self._get(connection, int(done.inserted_primary_key[0]))
        except IntegrityError:
            raise StorageError(f"camera {camera} has a round already: wait until it ends") from None

    def lease(self, round_id: int) -> str:
        """Return a new lease of a round; the one before, if there is any, is worth nothing from now on."""
        token = secrets.token_hex(16)
        with self._index.write() as connection:
            connection.execute(_of(round_id).values(lease=token))
        return token

    def holds(self, round_id: int, lease: str) -> bool:
        """Return whether a lease is the round's latest, and the round not over."""
        query = sa.select(rounds.c.id).where(*_held(round_id, lease))
        with self._index.read() as connection:
            return connection.execute(query).first() is not None

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

    def last(self, of: Collection[str]) -> dict[str, LastRound]:
        """Return the last round that ended of each of these cameras that had one."""
        later = rounds.alias()
        newest = sa.select(sa.func.max(later.c.finished)).where(later.c.camera == rounds.c.camera).scalar_subquery()
        query = rounds.select().where(rounds.c.camera.in_(of), rounds.c.finished == newest)
        with self._index.read() as connection:
            return {row.camera: _last(_round(row)) for row in connection.execute(query)}

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

    def save_stage(self, round_id: int, stage: str, result: dict[str, Any], lease: str | None = None) -> None:
        """Keep a stage's result; it counts as done from then on."""
        with self._index.write() as connection:
            stages = self._get(connection, round_id).stages | {stage: result}
            self._write(connection, round_id, lease, stages=msgspec.json.encode(stages).decode())

    def end(
        self,
        round_id: int,
        state: str,
        report: dict[str, Any],
        reason: str = "",
        at: float | None = None,
        lease: str | None = None,
    ) -> None:
        """Move a running round to `ready`, or end it as `refused` or `failed`."""
        with self._index.write() as connection:
            text = msgspec.json.encode(report).decode()
            self._write(connection, round_id, lease, state=state, report=text, reason=reason, finished=at)

    def begin(self, round_id: int, lease: str) -> bool:
        """Note that a process works on a round; return whether the end of the one before it was never noted."""
        with self._index.write() as connection:
            was = connection.execute(sa.select(rounds.c.worker).where(rounds.c.id == round_id)).scalar()
            self._write(connection, round_id, lease, worker=lease)
            return was not in (None, lease)

    def leave(self, round_id: int, lease: str) -> None:
        """Note that the process with that lease works no more: it said so itself, or the service saw its end."""
        with self._index.write() as connection:
            connection.execute(_of(round_id).where(rounds.c.worker == lease).values(worker=None))

    def crashed(self, round_id: int) -> int:
        """Count a child process that died; return how many have."""
        with self._index.write() as connection:
            connection.execute(_of(round_id).values(crashes=rounds.c.crashes + 1))
            return self._get(connection, round_id).crashes

    def _write(self, connection: sa.Connection, round_id: int, lease: str | None, **values: Any) -> None:
        """Change a round that is not over: of a camera that was removed, nothing stays."""
        done = connection.execute(rounds.update().where(*_held(round_id, lease)).values(**values))
        if lease is not None and not done.rowcount:
            raise LeaseLostError(f"round {round_id} is over, or another process works on it now")

    def _get(self, connection: sa.Connection, round_id: int) -> Round:
        return _round(connection.execute(rounds.select().where(rounds.c.id == round_id)).one())


def _last(turn: Round) -> LastRound:
    report, published = turn.report, turn.state == "published"
    gained = report.get("map_after", 0.0) - report.get("map_before", 0.0) if published else 0.0
    seconds = sum(report.get("seconds", {}).values())
    return LastRound(gained, seconds or max(0.0, (turn.finished or turn.started) - turn.started))


def _of(round_id: int) -> sa.Update:
    return rounds.update().where(rounds.c.id == round_id)


def _held(round_id: int, lease: str | None) -> list[sa.ColumnElement[bool]]:
    mine = [rounds.c.id == round_id, rounds.c.state.in_(UNFINISHED)]
    return mine if lease is None else [*mine, rounds.c.lease == lease]


def _round(row: Any) -> Round:
    fields = {name: value for name, value in row._mapping.items() if name not in ("lease", "worker")}
    return Round(**{**fields, "stages": _decoded(row, "stages"), "report": _decoded(row, "report")})


def _decoded(row: Any, column: str) -> dict[str, Any]:
    """Return a JSON column; an unreadable one counts as empty, so that one rotten row never stops every round."""
    try:
        return msgspec.json.decode(getattr(row, column), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        log.error("round_record_unreadable", round=row.id, camera=row.camera, column=column)
        return {}
