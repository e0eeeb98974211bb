from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from culling.cloud.settings import sqlite_url
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.frames import Counts, FrameStore, frame_counts
from culling.cloud.store.index import Index, frames
from culling.cloud.store.migrations import migrate, totals
from culling.cloud.store.migrations.steps import STEPS, Step
from culling.cloud.store.registry import Registry
from culling.cloud.store.rounds import Rounds
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import StorageError
from support.clock import FakeClock

DUMP = Path(__file__).parent / "index-0.2.0.sql"
"""A small index as version 0.2.0 wrote it: two cameras, 22 frames of which 3 expired, one round that was published."""

LEFT = {("cameras", "loss_at_publish")}
"""Columns that nothing reads any more: an index that has them keeps them, a new one has none."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The index of version 0.2.0, as a file."""
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(DUMP.read_text())
    connection.close()
    return path


def told(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.execute(query).fetchall())
    finally:
        connection.close()


def test_an_index_of_the_version_before_is_brought_up_to_date_when_it_is_opened(old: Path) -> None:
    index = Index(sqlite_url(old))
    assert frame_counts(index) == {
        "gate": Counts(stored=15, bytes=15681, asking_judges=2, asking_others=9),
        "yard": Counts(stored=4, bytes=4184, asking_judges=1, asking_others=3),
    }
    assert [turn.report["kept"] for turn in Rounds(index).all()] == [2]
    assert sorted(Registry(index).live_ids().items()) == [("gate", "gate-2"), ("yard", "yard-1")]
    with index.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(frames)).scalar() == 22
    index.close()


def test_frames_that_came_days_before_the_newest_do_not_wait_for_the_teacher_again(old: Path) -> None:
    connection = sqlite3.connect(old)
    with connection:
        asking = "camera = 'gate' AND state = 'stored' AND labels IS NULL"
        some = f"SELECT id FROM frames WHERE {asking} AND NOT held_out ORDER BY id LIMIT 3"
        connection.execute(f"UPDATE frames SET round = 1, received = received - 3 * 86400 WHERE id IN ({some})")
    connection.close()
    index = Index(sqlite_url(old))
    assert frame_counts(index)["gate"].asking_others == 9 - 3
    index.close()


def test_of_two_unfinished_rounds_of_a_camera_the_older_goes_on(old: Path) -> None:
    connection = sqlite3.connect(old)
    with connection:
        for camera, state in (("gate", "ready"), ("gate", "running"), ("yard", "running")):
            connection.execute(
                "INSERT INTO rounds (camera, trigger, state, started, crashes, stages, report, reason) "
                f"VALUES ('{camera}', 'manual', '{state}', 7.0, 0, '{{}}', '{{}}', '')"
            )
    connection.close()
    index = Index(sqlite_url(old))
    (second,) = (turn for turn in Rounds(index).all() if turn.state == "failed")
    assert (second.camera, second.finished) == ("gate", 7.0)
    assert second.reason == "an earlier round of its camera was not finished"
    assert [(turn.camera, turn.state) for turn in Rounds(index).unfinished()] == [
        ("gate", "ready"),
        ("yard", "running"),
    ]
    index.close()


def test_labels_of_an_earlier_version_are_by_the_bundled_classes(old: Path, tmp_path: Path) -> None:
    index = Index(sqlite_url(old))
    assert ClassLists(index).all() == {"gate": CLASSES, "yard": CLASSES}
    store = FrameStore(index, tmp_path / "frames", FakeClock())
    labelled = store.select("gate", frames.c.labels.is_not(None), frames.c.captured, None)
    assert labelled
    assert {frame.classes for frame in labelled} == {CLASSES}
    index.close()
    assert told(old, "SELECT DISTINCT class_list FROM frames WHERE labels IS NOT NULL") == [(1,)]


def test_a_migrated_index_is_made_like_a_new_one(old: Path, tmp_path: Path) -> None:
    Index(sqlite_url(old)).close()
    Index(sqlite_url(tmp_path / "new.sqlite")).close()
    for kind in ("index", "trigger"):
        query = f"SELECT name, sql FROM sqlite_master WHERE type = '{kind}'"
        assert told(old, query) == told(tmp_path / "new.sqlite", query)
    columns = 'SELECT m.name, p.name, p.type, p."notnull", p.pk FROM sqlite_master m, pragma_table_info(m.name) p'
    fresh = told(tmp_path / "new.sqlite", columns)
    assert [row for row in told(old, columns) if row[:2] not in LEFT] == fresh
    assert not LEFT & {row[:2] for row in fresh}


def test_everything_that_came_since_has_a_step(old: Path, tmp_path: Path) -> None:
    columns = "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'"
    before = told(old, columns)
    Index(sqlite_url(tmp_path / "new.sqlite")).close()
    steps, tables = {step.name for step in STEPS}, {table for table, _ in before}
    missing = {
        f"{table}.{column}" if table in tables else table
        for table, column in told(tmp_path / "new.sqlite", columns)
        if (table, column) not in before and table != "migrations"
    }
    assert missing <= steps, "add a Step to store/migrations/steps.py for each"
    assert len(steps) == len(STEPS), "no two steps have the same name"


def test_an_index_that_is_up_to_date_is_opened_without_a_write(old: Path) -> None:
    Index(sqlite_url(old)).close()
    other = sqlite3.connect(old, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    Index(sqlite_url(old)).close()
    other.close()


def test_a_step_that_fails_leaves_the_index_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sa.Connection) -> None:
        raise StorageError("the disk is full")

    before = told(old, "SELECT name, sql FROM sqlite_master")
    monkeypatch.setattr(migrate, "STEPS", (*STEPS, Step("one more", fail)))
    with pytest.raises(StorageError, match="the disk is full"):
        Index(sqlite_url(old))
    assert told(old, "SELECT name, sql FROM sqlite_master") == before
    monkeypatch.undo()
    Index(sqlite_url(old)).close()


def test_an_index_of_a_later_version_is_refused_with_what_to_do(old: Path) -> None:
    Index(sqlite_url(old)).close()
    with sqlite3.connect(old) as connection:
        connection.execute("INSERT INTO migrations VALUES ('frames.colour', '0.9.0')")
    connection.close()
    with pytest.raises(StorageError, match=r"newer than this software.*'frames\.colour'.*install culling 0\.9\.0"):
        Index(sqlite_url(old))


def test_steps_of_two_branches_may_come_in_any_order(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Step("ours"), Step("theirs")
    monkeypatch.setattr(migrate, "STEPS", (*STEPS, theirs))
    Index(sqlite_url(old)).close()
    monkeypatch.setattr(migrate, "STEPS", (*STEPS, ours, theirs))
    Index(sqlite_url(old)).close()
    assert {name for name, _ in told(old, "SELECT * FROM migrations")} == {*(s.name for s in STEPS), "ours", "theirs"}


def test_a_column_of_a_later_version_comes_with_its_default_and_its_fill(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = sa.MetaData()
    wider = sa.Table("edges", tables, sa.Column("note", sa.Text), sa.Column("rank", sa.Integer, server_default="7"))
    sa.Table("frames", tables, sa.Column("guard", sa.Boolean))
    fill = Step("edges.note", lambda connection: connection.execute(wider.update().values(note="hello")) and None)
    others = (step for step in STEPS if step.name not in ("class_lists", "deeds"))  # whose tables this index lacks
    monkeypatch.setattr(migrate, "STEPS", (*others, fill, Step("edges.rank")))
    engine = sa.create_engine(sqlite_url(old))
    with engine.begin() as connection:
        totals_table = sa.Table("totals", tables, sa.Column("camera", sa.Text, primary_key=True))
        for name in totals.NAMES:
            totals_table.append_column(sa.Column(name, sa.Integer))
        migrate.migrate(connection, tables)
    engine.dispose()
    assert told(old, "SELECT note, rank FROM edges") == [("hello", 7)]


def test_a_database_without_triggers_of_ours_is_refused() -> None:
    engine = sa.create_mock_engine("mysql://", lambda *_: None)
    with pytest.raises(StorageError, match="mysql is not supported: use SQLite or PostgreSQL"):
        totals.install(engine)  # type: ignore[arg-type]
