"""Copies a whole index into another database, from either kind to either: for a backup, and to move to PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

from culling.cloud.store.index import Index, edges, frames, models, rounds, totals
from culling.common.errors import StorageError

AT_ONCE = 1000
"""Rows in memory at a time; those of frames have a few kilobytes."""


def copy_index(source: Index, target: Index) -> int:
    """Copy every row, as of one moment, into a new index; return how many.

    Raises StorageError where it is in use.
    """
    copied = 0
    with source.read() as old, target.write() as new:
        for table in (edges, frames, models, rounds):
            if new.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
                raise StorageError("index: it holds rows already: name an empty database")
        for table in frames.metadata.sorted_tables:
            if table is totals:  # triggers keep them
                continue
            new.execute(table.delete())  # what a new index begins with
            found = old.execution_options(yield_per=AT_ONCE).execute(table.select())
            for rows in found.mappings().partitions():
                new.execute(table.insert(), [dict(row) for row in rows])
                copied += len(rows)
        go_on_counting(new)
    return copied


def go_on_counting(connection: sa.Connection) -> None:
    """Have PostgreSQL number new rows after those that were copied; SQLite does so itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in frames.metadata.sorted_tables:
        if (column := table.autoincrement_column) is not None:
            sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
            last = f"SELECT COALESCE(MAX({column.name}), 0) + 1 FROM {table.name}"
            connection.exec_driver_sql(f"SELECT setval({sequence}, ({last}), false)")
