"""Who did what: each action of a person or a program, by command, on the page or over its API, as a row of the index;
and what the service ordered a camera by itself.

Rows are only ever added (`migrations/append_only.py`). What was asked for is carried out later, by the service: how
that ended is read from the request. At the command line it is who runs the process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from culling.cloud.store.index import Index, deeds, requests
from culling.cloud.store.purge import audit
from culling.cloud.store.purge.audit import Event, who

By: TypeAlias = Literal["anyone", "page.token", "token", "signed", "command", "service"]
Outcome: TypeAlias = Literal["done", "asked", "refused"]
AT_ONCE = 500
"""Most rows that are forgotten in one call."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Actor:
    """Who acts, how that is known, and the address that it came from, "" for this machine."""

    who: str
    by: By
    address: str = ""

    @property
    def told(self) -> str:
        """Who it is, and from where."""
        return f"{self.who}, {self.address}" if self.address else self.who


@dataclass(frozen=True)
class Deed:
    """One action; `what` says more of it than the camera."""

    actor: Actor
    action: str
    camera: str | None = None
    outcome: Outcome = "done"
    what: Row = field(default_factory=dict)


def operator() -> Actor:
    """Return who runs this process, as `name@host`; through sudo, who became that."""
    found = who()
    return Actor(f"{found.get('sudo_user', found['user'])}@{found['host']}", "command")


def write(connection: sa.Connection, deed: Deed, at: float, request: int | None = None) -> None:
    """Add a row in the transaction that does what it tells of."""
    told = json.dumps(deed.what, default=str)
    actor = {"who": deed.actor.who, "by": deed.actor.by, "address": deed.actor.address}
    what = {"action": deed.action, "camera": deed.camera, "outcome": deed.outcome, "what": told, "request": request}
    connection.execute(deeds.insert().values(at=at, **actor, **what))


class Deeds:
    """What was done, in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def add(self, deed: Deed, at: float) -> None:
        """Add a row. Raises StorageError."""
        with self._index.write() as connection:
            write(connection, deed, at)

    def all(self, since: float = 0.0, limit: int = 1000) -> list[Row]:
        """Return the newest rows since a time, newest first; `outcome` of what was asked for is how that ended."""
        columns = (deeds, requests.c.done, requests.c.failed, requests.c.answer)
        joined = sa.select(*columns).join(requests, requests.c.id == deeds.c.request, isouter=True)
        query = joined.where(deeds.c.at >= since).order_by(deeds.c.id.desc()).limit(limit)
        with self._index.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def forget(self, before: float) -> int:
        """Delete rows from before a time; return how many. At most `AT_ONCE` go: the next call goes on."""
        chosen = sa.select(deeds.c.id).where(deeds.c.at < before).order_by(deeds.c.at).limit(AT_ONCE)
        with self._index.write() as connection:
            return connection.execute(deeds.delete().where(deeds.c.id.in_(chosen))).rowcount


def record(index: Index, data_dir: Path, event: Event, at: float, **what: Any) -> None:
    """Add what concerns cameras and pictures to the index and to `audit.log`, which outlives it.

    It is done by who runs this process. Raises StorageError.
    """
    audit.record(data_dir, event, at, **what)
    told = {name: value for name, value in what.items() if name != "camera"}
    Deeds(index).add(Deed(operator(), event, what.get("camera"), what=told), at)


def _row(row: sa.Row[Any]) -> Row:
    shown = ("id", "at", "who", "by", "address", "action", "camera", "outcome")
    told: Row = {name: getattr(row, name) for name in shown} | {
        "what": json.loads(row.what),
        "answer": row.answer or "",
    }
    if row.done is not None:
        told["outcome"] = "failed" if row.failed else "done"
    return told
