"""Brings an index up to this version, in one transaction, or refuses one that a later version wrote."""

from __future__ import annotations

from importlib.metadata import version

import sqlalchemy as sa
import structlog
from sqlalchemy import Column, MetaData, String, Table

from culling.cloud.store.migrations.steps import STEPS
from culling.common.errors import StorageError

log = structlog.get_logger(__name__)

migrations = Table(  # which steps the index has taken
    "migrations",
    MetaData(),
    Column("step", String(80), primary_key=True),
    Column("software", String(64), nullable=False),  # the version that took it
)


def is_current(connection: sa.Connection) -> bool:
    """Return whether the index has taken every step. Raises StorageError when it has taken one that is not known."""
    return not {step.name for step in STEPS} - _taken(connection).keys()


def check_current(connection: sa.Connection) -> None:
    """Raise StorageError with what to do where the index has not taken every step."""
    taken = _taken(connection)
    if missing := [step.name for step in STEPS if step.name not in taken]:
        wrong = f"it lacks {len(missing)} steps of culling {version('culling')}, first {missing[0]!r}"
        raise StorageError(
            f"index: {wrong if _has_frames(connection) else 'the database is empty'}: run `culling cloud migrate`"
        )


def migrate(connection: sa.Connection, tables: MetaData) -> tuple[str, ...]:
    """Take the steps that the index has not, and make `tables` as they are now; a new index takes all of them.

    Return their names.
    """
    taken, is_new = _taken(connection), not _has_frames(connection)
    migrations.create(connection, checkfirst=True)
    tables.create_all(connection)
    if not is_new:
        _add_columns(connection, tables)
        for step in STEPS:
            if step.before is not None and step.name not in taken:
                step.before(connection)
        _add_indexes(connection, tables)
    software = version("culling")
    for step in STEPS:
        if step.name in taken:
            continue
        if step.change is not None:
            step.change(connection)
        connection.execute(migrations.insert().values(step=step.name, software=software))
        if not is_new:
            log.info("index_migrated", step=step.name)
    return tuple(step.name for step in STEPS if step.name not in taken)


def _has_frames(connection: sa.Connection) -> bool:
    return sa.inspect(connection).has_table("frames")


def _taken(connection: sa.Connection) -> dict[str, str]:
    """Return the steps that the index has taken, each with the version that took it; of 0.2.0 there are none."""
    if not sa.inspect(connection).has_table(migrations.name):
        return {}
    taken = {row.step: row.software for row in connection.execute(migrations.select())}
    if unknown := sorted(taken.keys() - {step.name for step in STEPS}):
        software, ours = taken[unknown[0]], version("culling")
        raise StorageError(
            f"index: it is newer than this software, culling {ours}, which does not know its step {unknown[0]!r}: "
            f"install culling {software} or later, or restore the backup that was made before the upgrade"
        )
    return taken


def _add_columns(connection: sa.Connection, tables: MetaData) -> None:
    for table in tables.sorted_tables:
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                told = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {told}")


def _add_indexes(connection: sa.Connection, tables: MetaData) -> None:
    for table in tables.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
