"""Rounds and requests: what was begun and what was asked for, written down so that a restart goes on from there.

A round is `running` while its child process works, `ready` when it made a model that passed the gate, and ends
`published`, `refused` (with the gate's reason) or `failed`. Every finished stage leaves its result in the round's row,
and is not done again.

Requests are how the command line and the page act on the service, whether it runs or not: they enter
them here, the service takes them within a second, or at its next start, and writes the answer beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, requests, rounds
from culling.common.errors import InputError

Kind = Literal[
    "round", "publish", "rollback", "renew", "hold", "unhold", "pin", "unpin", "pause", "resume", "budget", "frame"
]
UNFINISHED = ("running", "ready")
STOPPED = 75
"""Exit code of a round's process that was told to stop: there is more to do (EX_TEMPFAIL)."""


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
class Request:
    """One request that is not done."""

    id: int
    kind: str
    camera: str
    payload: dict[str, Any]


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

    def all(self, camera: str | None = None, limit: int = 1000) -> list[Round]:
        """Return the newest rounds, newest first."""
        query = rounds.select().order_by(rounds.c.id.desc()).limit(limit)
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
        """Return when the last round of each camera ended, of those that had one; seconds since the epoch."""
        last = sa.func.max(rounds.c.finished).label("at")
        query = sa.select(rounds.c.camera, last).where(rounds.c.finished.is_not(None)).group_by(rounds.c.camera)
        with self._index.read() as connection:
            return {row.camera: row.at for row in connection.execute(query)}

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
            connection.execute(_of(round_id).values(stages=msgspec.json.encode(stages).decode()))

    def end(self, round_id: int, state: str, report: dict[str, Any], reason: str = "", at: float | None = None) -> None:
        """Move a running round to `ready`, or end it as `refused` or `failed`."""
        with self._index.write() as connection:
            text = msgspec.json.encode(report).decode()
            running = _of(round_id).where(rounds.c.state.in_(UNFINISHED))
            connection.execute(running.values(state=state, report=text, reason=reason, finished=at))

    def crashed(self, round_id: int) -> int:
        """Count a child process that died; return how many have."""
        with self._index.write() as connection:
            connection.execute(_of(round_id).values(crashes=rounds.c.crashes + 1))
            return self._get(connection, round_id).crashes

    def _get(self, connection: sa.Connection, round_id: int) -> Round:
        return _round(connection.execute(rounds.select().where(rounds.c.id == round_id)).one())


class Requests:
    """The requests in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def ask(self, kind: Kind, camera: str, at: float, payload: dict[str, Any] | None = None) -> int:
        """Enter a request; return its number."""
        text = msgspec.json.encode(payload or {}).decode()
        with self._index.write() as connection:
            done = connection.execute(requests.insert().values(kind=kind, camera=camera, payload=text, asked=at))
            assert done.inserted_primary_key is not None
            return int(done.inserted_primary_key[0])

    def ask_once(self, kind: Kind, camera: str, at: float) -> None:
        """Enter a request, unless the same one is still open."""
        if all((request.kind, request.camera) != (kind, camera) for request in self.open()):
            self.ask(kind, camera, at)

    def open(self) -> list[Request]:
        """Return what was not answered, oldest first."""
        query = requests.select().where(requests.c.done.is_(None)).order_by(requests.c.id)
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        return [Request(row.id, row.kind, row.camera, msgspec.json.decode(row.payload)) for row in rows]

    def answer(self, request_id: int, text: str, failed: bool, at: float) -> None:
        """Close a request."""
        with self._index.write() as connection:
            which = requests.update().where(requests.c.id == request_id)
            connection.execute(which.values(done=at, answer=text, failed=failed))

    def answered(self, request_id: int) -> tuple[bool, str] | None:
        """Return (whether it succeeded, the answer), or None while it is open. Raises InputError if there is none."""
        query = sa.select(requests.c.done, requests.c.failed, requests.c.answer).where(requests.c.id == request_id)
        with self._index.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise InputError(f"there is no request {request_id}")
        return None if row.done is None else (not row.failed, row.answer)


def _of(round_id: int) -> sa.Update:
    return rounds.update().where(rounds.c.id == round_id)


def _round(row: Any) -> Round:
    fields = dict(row._mapping)
    return Round(**{**fields, "stages": msgspec.json.decode(row.stages), "report": msgspec.json.decode(row.report)})
