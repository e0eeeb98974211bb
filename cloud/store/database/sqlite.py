"""SQLite, with WAL and synchronous=FULL: a change takes the write lock before it reads.

One that began by reading could be told, with no way to wait, that the database is busy.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import sqlalchemy as sa

BUSY_S = 30
"""Long enough for any write of ours to end, even on a slow disk; after that the database counts as unusable."""


def open_engine(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """Return what reads the database, and what writes it."""
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions of its own, and too late
        for pragma in (f"busy_timeout={BUSY_S * 1000}", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine, engine.execution_options(writes=True)


def settle(engine: sa.Engine) -> None:
    """Empty the log into the database, so that what was deleted is in neither."""
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
