"""The trial of a cluster's upgrade: what passes, and in which order it goes. It takes minutes: not run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.images import ROOT
from support.scripts import loaded
from support.waiting import wait_until


@pytest.fixture(scope="module")
def trial() -> ModuleType:
    return loaded(ROOT / "tests" / "bench" / "roll.py")


def test_processes_go_in_the_order_that_is_documented_and_the_elected_control_last(trial: ModuleType) -> None:
    names = trial.order({"control-1": True, "control-2": False})
    assert names == ["ingest-1", "ingest-2", "ingest-3", "page-1", "page-2", "control-2", "control-1"]


def test_it_passes_only_where_every_edge_went_on_and_was_heard_at_each_step(trial: ModuleType) -> None:
    heard = {"N-1": {"north": 1, "south": 2, "witness": 3}}
    assert trial.whole(trial.Rolled(stored=heard))
    assert not trial.whole(trial.Rolled(stored=heard, restarted=["before"]))
    assert not trial.whole(trial.Rolled(stored={**heard, "N": {"north": 0, "south": 1, "witness": 1}}))


def test_its_table_has_a_line_for_each_step(trial: ModuleType) -> None:
    rolled = trial.Rolled(stored={"N": {"north": 3}}, gaps={"N": 2.04}, took={"N": 61.2})
    first, last = trial.table(rolled).splitlines()
    assert first == "N: 61 s to change, 2.0 s at most without an acknowledgement, stored 3 of north"
    assert last == "edges that ended or started anew: none"


def test_a_process_that_is_replaced_runs_with_what_is_used_then(trial: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "teller.py").write_text(
        "import os, time\nprint(os.environ['SIDE'], flush=True)\nwhile True: time.sleep(60)\n"
    )
    path = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    process = trial.Process("teller", ["teller"], tmp_path, {**path, "SIDE": "before"})
    log = tmp_path / "teller.log"
    wait_until(lambda: log.read_text() == "before\n")
    was = process.pid

    process.environment = {**path, "SIDE": "after"}
    process.terminate()
    wait_until(lambda: not process.runs)
    process.start()

    wait_until(lambda: log.read_text() == "before\nafter\n")
    assert process.pid != was
    process.kill()


def test_it_starts_from_a_revision_alone_and_says_which_is_unknown(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tests" / "bench" / "roll.py"),
        "--before",
        "no-such",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("--before no-such: ")
