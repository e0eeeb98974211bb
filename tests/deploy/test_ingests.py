"""The bench of a cluster's ingests: what it takes for durable, its bare loop, and what it reports.

It starts five services, which takes longer than tests may: all of it runs in `make soak`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from culling.cloud.bench.crowd import frames
from support.images import ROOT
from support.postgres import Postgres, binaries
from support.scripts import loaded

SCRIPT = ROOT / "tests" / "bench" / "ingests.py"


@pytest.fixture(scope="module")
def trial() -> ModuleType:
    return loaded(SCRIPT)


def test_frames_are_durable_where_each_that_was_acked_has_one_row_and_a_picture(trial: ModuleType) -> None:
    one, two = ("boot", 1), ("boot", 2)
    both = frozenset({one, two})
    assert trial.Kept("side", both, [two, one], both).durable
    for rows, whole in (([one], {one}), ([one, two], {one}), ([one, two, two], {one, two})):
        assert not trial.Kept("side", both, rows, frozenset(whole)).durable, rows
    assert not trial.Kept("side", frozenset({one}), [one, two], both).durable, "stored, and not acked"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    found = postgres.empty()
    yield found
    postgres.drop(found)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_bare_loop_leaves_a_row_and_a_picture_of_each_frame(
    trial: ModuleType, url: str, bucket: str, at_once: int
) -> None:
    with closing(trial.Bare("bare", url, f"{bucket}/bare", at_once)) as bare:
        for _ in range(2):
            assert bare.deliver(frames(["north", "south"], 5, 2000)) > 0
        kept = bare.kept()
        assert kept.durable
        assert len(kept.rows) == 10
        bare._connections[0].execute("DELETE FROM bare WHERE seq = 3")
        assert not bare.kept().durable


def test_each_form_is_held_against_as_many_loops_and_the_rest_is_stated(trial: ModuleType) -> None:
    speeds = {"embedded": 100.0, "1 ingest": 30.0, "3 ingests": 60.0, "1 bare loop": 50.0, "3 bare loops": 150.0}
    found = trial.Found(
        {side: (value,) for side, value in speeds.items()}, dict.fromkeys(speeds, (0.5,)), [], "HAProxy"
    )
    told = trial.report_of(found, 3, 2000).as_dict()
    ratios = {one["name"]: (one["ratio"].median, one["met"]) for one in told["comparisons"]}
    assert ratios == {
        "1 ingest": (0.6, True),
        "3 ingests": (0.4, False),
        "1 ingest / embedded": (0.3, None),
        "3 ingests / embedded": (0.6, None),
        "3 ingests / 1 ingest": (2.0, None),
        "3 bare loops / 1 bare loop": (3.0, None),
    }
    assert told["name"] == "3 ingests", "what misses its target is what the bench is about"
    assert len(told["stated"]) == 4


def test_a_postgresql_to_measure_by_fsyncs(postgres: Postgres) -> None:
    assert "fsync=off" in postgres._options
    programs = binaries()
    assert programs is not None
    with closing(Postgres(programs, durable=True)) as durable:
        engine = sa.create_engine(durable.url("postgres"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("fsync", "synchronous_commit")]
    assert shown == ["on", "on"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


def test_fewer_edges_than_ingests_are_refused() -> None:
    done = run("--edges", "2")
    assert done.returncode == 2
    assert "--edges of 3" in done.stderr


@pytest.mark.soak
@pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed: `apt-get install postgresql`")
def test_each_side_keeps_what_it_acked() -> None:
    done = run("--edges", "3", "--frames", "6", "--size", "2000", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert len(told["comparisons"]) == 6
    assert [note for note in told["notes"] if "9 acked, 9 rows, 9 of them with a picture" in note][4:]
