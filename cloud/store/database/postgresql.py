"""PostgreSQL, through psycopg: a change holds a lock of its database, so that one at a time is made, as in SQLite.

Everything that writes reads first what it depends on, and relies on nobody changing that meanwhile. The lock is taken
before the first read, is given back by the commit, and is gone with a connection that breaks (`docs/adr/0016`).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

WRITING = int.from_bytes(b"culling")
"""The advisory lock of everything that changes an index; it is one per database."""

BUSY_S = 30
"""Long enough for any write of ours to end; after that the database counts as unusable."""

CONNECT_S = 10
_OPTIONS = {
    "application_name": "culling",
    "connect_timeout": CONNECT_S,
    # A machine that vanished holds nobody for longer than a write may last.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": BUSY_S * 1000,
    # The server, too, gives up a machine that vanished, and with it the locks that it held.
    "options": f"-c lock_timeout={BUSY_S * 1000} -c idle_in_transaction_session_timeout={2 * BUSY_S * 1000} "
    "-c tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
}


def open_engine(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """Return what reads the database, and what writes it. Options that the URL names are left as they are."""
    given = {name: value for name, value in _OPTIONS.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=given)  # the server may have been restarted

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.adapters.register_loader("numeric", _number_loader())

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITING})")

    # A snapshot for whoever reads; none for whoever writes: it would be of before the lock.
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return reading, engine.execution_options(writes=True, isolation_level="READ COMMITTED")


def settle(engine: sa.Engine) -> None:
    """Remove rows that were deleted or replaced from every table; the server's log may hold them for a while."""
    with engine.connect().execution_options(writes=False, isolation_level="AUTOCOMMIT") as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f"VACUUM {table}")


def _number_loader() -> type[Any]:
    """Return what reads sums and means of our columns as SQLite gives them: whole numbers as int, others as float."""
    from psycopg.adapt import Loader

    class Number(Loader):
        def load(self, data: Any) -> int | float:
            text = bytes(data).decode()
            return int(text) if text.lstrip("-").isdigit() else float(text)

    return Number
