"""Opens the database of an index by its URL: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from culling.cloud.store.database import postgresql, sqlite
from culling.cloud.store.database.seat import Locked, Only, Seat
from culling.common.errors import StorageError

EXAMPLE = "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
EXTRA = {"psycopg": "pip install 'culling[postgres]'"}
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}
"""SQLAlchemy would take another driver for these; people and providers write them."""

_OPEN = {"sqlite": sqlite.open_engine, "postgresql": postgresql.open_engine}
_SETTLE: dict[str, Callable[[sa.Engine], None]] = {"sqlite": sqlite.settle, "postgresql": postgresql.settle}


@dataclass(frozen=True)
class Connections:
    """One database, seen by `reading` as of one moment, while `writing` lets one transaction at a time change it.

    `embedded`: it is a file of the data folder, and nobody else's to look after.
    """

    reading: sa.Engine
    writing: sa.Engine

    @property
    def embedded(self) -> bool:
        """Whether the database is a file that the service looks after itself."""
        return self.writing.dialect.name == "sqlite"

    def seat(self) -> Seat:
        """Return the seat of the one that does what only one of those that share the database should."""
        return Only() if self.embedded else Locked(self.writing)

    def settle(self) -> None:
        """Have the database give up what it still holds of rows that were deleted."""
        _SETTLE[self.writing.dialect.name](self.writing)

    def close(self) -> None:
        """Close every connection."""
        self.writing.dispose()


def open_database(url: str | sa.URL) -> Connections:
    """Return connections to the database at `url`. Raises StorageError for a URL of none, or one that is not supported.

    Nothing is connected yet, so that a database that is down is found by the first that reads.
    """
    try:
        found = sa.make_url(url)
        found = found.set(drivername=_DRIVERS.get(found.drivername, found.drivername))
    except (sa.exc.ArgumentError, ValueError):  # which would repeat it, with the password
        raise StorageError(f"store.url is no URL of a database: give one such as {EXAMPLE}") from None
    kind = found.get_backend_name()
    if kind not in _OPEN or (kind == "postgresql" and found.drivername != _DRIVERS["postgresql"]):
        raise StorageError(f"store.url: {found.drivername} is not supported: use SQLite, or {EXAMPLE}")
    try:
        return Connections(*_OPEN[kind](found))
    except ModuleNotFoundError as error:
        raise StorageError(f"store.url cannot be used without {error.name}: {EXTRA.get(error.name or '')}") from None
