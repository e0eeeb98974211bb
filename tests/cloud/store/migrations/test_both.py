"""The same steps lead an index of version 0.2.0 to this one on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from culling.cloud.settings import sqlite_url
from culling.cloud.store.frames import Counts, frame_counts
from culling.cloud.store.index import Index
from culling.cloud.store.migrations import totals
from culling.cloud.store.registry import Registry
from culling.common.errors import StorageError
from support.postgres import Postgres

DUMP = Path(__file__).parent / "index-0.2.0.sql"
MADE = {
    "columns": "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
    "WHERE table_schema = 'public' AND column_name <> 'loss_at_publish'",
    "indexes": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": "SELECT trigger_name, event_manipulation, action_orientation FROM information_schema.triggers",
}


@pytest.fixture
def old(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """A database in which version 0.2.0 kept the index of the dump."""
    with sqlite3.connect(file := tmp_path / "old.sqlite") as connection:
        connection.executescript(DUMP.read_text())
    connection.close()
    url, tables = postgres.empty(), sa.MetaData()
    source, target = sa.create_engine(sqlite_url(file)), sa.create_engine(url)
    tables.reflect(source)
    for column in (column for table in tables.sorted_tables for column in table.columns):
        column.type = column.type.as_generic()
    with source.begin() as reading, target.begin() as writing:
        tables.create_all(writing)
        for table in tables.sorted_tables:
            if rows := [dict(row) for row in reading.execute(table.select()).mappings()]:
                writing.execute(table.insert(), rows)
    source.dispose()
    target.dispose()
    yield url
    postgres.drop(url)


def told(url: str, query: str) -> list[Any]:
    index = Index(url)
    with index.read() as connection:
        rows = sorted(map(tuple, connection.exec_driver_sql(query)))
    index.close()
    return rows


def test_an_index_of_the_version_before_is_migrated_when_it_is_asked_for(old: str) -> None:
    with pytest.raises(StorageError, match="run `culling cloud migrate`"):
        Index(old)
    index = Index(old, migrating=True)
    assert frame_counts(index) == {
        "gate": Counts(stored=15, bytes=15681, asking_judges=2, asking_others=9),
        "yard": Counts(stored=4, bytes=4184, asking_judges=1, asking_others=3),
    }
    assert sorted(Registry(index).live_ids().items()) == [("gate", "gate-2"), ("yard", "yard-1")]
    with index.read() as connection:
        assert totals.kept(connection) == totals.counted(connection)
    index.close()


def test_a_migrated_index_is_made_like_a_new_one(old: str, postgres: Postgres) -> None:
    Index(old, migrating=True).close()
    new = postgres.take()
    for query in MADE.values():
        assert told(old, query) == told(new, query)
    postgres.give_back(new)


def test_a_later_index_is_refused_with_what_to_do(old: str) -> None:
    index = Index(old, migrating=True)
    with index.write() as connection:
        connection.exec_driver_sql("INSERT INTO migrations VALUES ('frames.colour', '0.9.0')")
    index.close()
    for migrating in (False, True):
        with pytest.raises(StorageError, match=r"newer than this software.*install culling 0\.9\.0"):
            Index(old, migrating=migrating)
