"""A PostgreSQL of the tests' own: made in a folder of its own, on a socket there, and gone with it.

Each test has a database with an empty index: a copy of a template, or one that another test has given back.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from culling.cloud.store.database.copy import go_on_counting
from culling.cloud.store.index import Index, frames
from support.children import die_with_parent

TEMPLATE = "empty"
QUICK = ("fsync=off", "full_page_writes=off")
QUIET = ("autovacuum=off", "max_wal_size=4GB")
SMALL = ("shared_buffers=32MB", "max_connections=60", "wal_level=minimal", "max_wal_senders=0", "listen_addresses=")


def binaries() -> Path | None:
    """Return the folder of the server's programs, the newest there is; Debian keeps them off the path."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


class Postgres:
    """A running server; it refuses to run as root, and then runs as the account of Debian's package.

    One that is `durable` fsyncs each commit. Its folder is made in `within`, by default the system's temporary one.
    """

    def __init__(self, programs: Path, durable: bool = False, within: Path | None = None) -> None:
        self._options = (*(() if durable else QUICK), *QUIET, *SMALL)
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=within))
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, pwd.getpwnam(self._user).pw_gid)
        self._programs = programs
        self._numbers = itertools.count(1)
        self._free: list[str] = []
        self._run("initdb", "-D", "data", "-U", "culling", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._process = self.start()
        self._administrator = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._tell(f"CREATE DATABASE {TEMPLATE}")
        index = Index(self.url(TEMPLATE), migrating=True)
        with index.read() as connection:
            found = {table: connection.execute(table.select()) for table in frames.metadata.sorted_tables}
            self._first = {table: [dict(row) for row in rows.mappings()] for table, rows in found.items()}
        index.close()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, and wait until it takes connections."""
        options = [part for option in self._options for part in ("-c", option)]
        command = [self._programs / "postgres", "-D", "data", "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, user=self._user, preexec_fn=die_with_parent
            )
        deadline = time.monotonic() + 30
        engine = sa.create_engine(self.url("postgres"), poolclass=sa.NullPool)
        while True:
            try:
                engine.connect().close()
            except sa.exc.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return self._process

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://culling@/{name}?host={self.folder}"

    def empty(self) -> str:
        """Return the URL of a new database without tables."""
        self._tell(f"CREATE DATABASE {(name := f'new_{next(self._numbers)}')}")
        return self.url(name)

    def take(self) -> str:
        """Return the URL of a database with an empty index."""
        if self._free:
            return self._free.pop()
        self._tell(f"CREATE DATABASE {(name := f'test_{next(self._numbers)}')} TEMPLATE {TEMPLATE}")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """End what is still connected to a database, and empty it as a new one is: cheaper than another copy."""
        name = sa.make_url(url).database
        self._tell(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE deeds DISABLE TRIGGER USER")  # which keep its rows
            for table in frames.metadata.sorted_tables:
                connection.execute(table.delete())
                if rows := self._first[table]:
                    connection.execute(table.insert(), rows)
            connection.exec_driver_sql("ALTER TABLE deeds ENABLE TRIGGER USER")
            go_on_counting(connection)
        self._free.append(url)

    def drop(self, url: str) -> None:
        self._tell(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def kill(self) -> None:
        """End it as a power cut would, with everything that serves a connection."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def close(self) -> None:
        self._administrator.dispose()
        self.kill()
        shutil.rmtree(self.folder)

    def _tell(self, statement: str) -> None:
        with self._administrator.connect() as connection:
            connection.exec_driver_sql(statement)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(command, cwd=self.folder, user=self._user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
