"""The seat of the one process that does what only one of those that share an index should.

In PostgreSQL it is an advisory lock that a connection holds: it is gone with the process, with its machine, and when
the server restarts. Whoever has it cannot be told that it lost it, so that it asks in every turn, and every change that
it makes asks once more, within its transaction. A file of SQLite has one service, which has the seat.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Protocol

import sqlalchemy as sa

from culling.cloud.store.database.errors import DeposedError, translated

CHOSEN = int.from_bytes(b"service")
"""The lock of the seat."""

MARK = int.from_bytes(b"seat")
"""The first half of the lock by which a transaction tells this holder from a later one; the other half is random."""


class Seat(Protocol):
    """Used from one thread, `check` from any. All raise StorageError where the database cannot be used."""

    def take(self) -> bool:
        """Take the seat if it is free; return whether this process has it.

        Raises StorageError also where it had it and lost it: whoever calls again stands anew.
        """

    def check(self, connection: sa.Connection) -> None:
        """Raise DeposedError where this process does not have the seat while a change is made."""

    def leave(self) -> None:
        """Give the seat up, if this process has it."""


class Only:
    """The seat of the only service there is."""

    def take(self) -> bool:
        """Return that this process has it: the lock of its data folder lets no other near the file."""
        return True

    def check(self, connection: sa.Connection) -> None:
        """Do nothing: nobody else can have it."""

    def leave(self) -> None:
        """Do nothing: it ends with the process."""


class Locked:
    """The seat of an index in PostgreSQL, on a connection of its own that the pool does not get back."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine.execution_options(writes=False, isolation_level="AUTOCOMMIT")
        self._connection: sa.Connection | None = None
        self._mark = 0

    def take(self) -> bool:
        """Take the lock, or see that the connection which holds it still lives."""
        try:
            with translated():
                return self._try()
        except BaseException:
            self.leave()
            raise

    def _try(self) -> bool:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.detach()
        if self._mark:
            self._connection.exec_driver_sql("SELECT 1")
        elif self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({CHOSEN})").scalar():
            mark = secrets.randbelow(2**31 - 1) + 1
            self._connection.exec_driver_sql(f"SELECT pg_advisory_lock({MARK}, {mark})")
            self._mark = mark
        return self._mark > 0

    def check(self, connection: sa.Connection) -> None:
        """Look whether the connection that took the lock still holds its mark."""
        held = f"locktype = 'advisory' AND classid = {MARK} AND objid = {self._mark} AND granted"
        if not self._mark or not connection.exec_driver_sql(f"SELECT count(*) FROM pg_locks WHERE {held}").scalar():
            raise DeposedError("index: this process is not the elected control any more")

    def leave(self) -> None:
        """Close the connection, and with it the lock."""
        connection, self._connection, self._mark = self._connection, None, 0
        if connection is not None:
            with suppress(sa.exc.SQLAlchemyError):  # the server may be gone
                connection.close()
