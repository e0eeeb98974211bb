"""Requests: what an operator asked for, written down so that a restart goes on from there.

The command line and the page act on the service through them, whether it runs or not: it carries a request out within
a second, or at its next start, and writes the answer beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, requests
from culling.cloud.store.people.deeds import Actor, Deed, write
from culling.common.errors import InputError

Act = Literal["hold", "unhold", "pin", "unpin", "pause", "resume", "budget", "frame", "classes"]
Kind = Literal["round", "publish", "rollback", "renew", Act]


@dataclass(frozen=True)
class Request:
    """One request that is not answered."""

    id: int
    kind: str
    camera: str
    payload: dict[str, Any]


class Requests:
    """The requests in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def ask(
        self, kind: Kind, camera: str, at: float, payload: dict[str, Any] | None = None, actor: Actor | None = None
    ) -> int:
        """Enter a request, with who asked if that is a person; return its number."""
        given = payload or {}
        text = msgspec.json.encode(given).decode()
        with self._index.write() as connection:
            done = connection.execute(requests.insert().values(kind=kind, camera=camera, payload=text, asked=at))
            assert done.inserted_primary_key is not None
            number = int(done.inserted_primary_key[0])
            if actor is not None:
                short = {name: value for name, value in given.items() if isinstance(value, str | int | float)}
                write(connection, Deed(actor, kind, camera, "asked", short), at, number)
        return number

    def ask_once(self, kind: Kind, camera: str, at: float, payload: dict[str, Any] | None = None) -> None:
        """Enter a request, unless one of that kind is still open for the camera."""
        if all((request.kind, request.camera) != (kind, camera) for request in self.open()):
            self.ask(kind, camera, at, payload)

    def open(self) -> list[Request]:
        """Return the requests that are not answered, oldest first."""
        query = requests.select().where(requests.c.done.is_(None)).order_by(requests.c.id)
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        return [Request(row.id, row.kind, row.camera, _payload(row)) for row in rows]

    def rounds(self) -> dict[str, int]:
        """Return the camera of each open request for a round, with the request's number."""
        return {request.camera: request.id for request in self.open() if request.kind == "round"}

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


def _payload(row: Any) -> dict[str, Any]:
    """Return what a request says; one that cannot be read says nothing, and is refused for that."""
    try:
        return msgspec.json.decode(row.payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
