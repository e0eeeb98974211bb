"""The trial of an upgrade: what it takes for lost, and the code that it runs. It takes minutes: not run here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.deployed import unknown_words
from support.images import ROOT
from support.scripts import loaded


@pytest.fixture(scope="module")
def trial() -> ModuleType:
    return loaded(ROOT / "tests" / "bench" / "upgrade.py")


def test_a_frame_is_lost_that_was_acknowledged_and_has_no_row(trial: ModuleType) -> None:
    assert trial.lost([1, 2, 3], [1, 3, 4]) == [2]
    assert trial.lost([1, 3], [1, 3, 4]) == [], "stored and not acknowledged yet is no loss"


def test_a_gap_lasts_from_the_last_acknowledgement_before_a_stop_and_ends_with_its_step(trial: ModuleType) -> None:
    times = [1.0, 2.0, 9.0, 10.0, 40.0]
    assert trial.gap(times, 2.5, 11.0) == 7.0
    assert trial.gap(times, 2.5, float("inf")) == 30.0
    assert trial.gap(times, 41.0, float("inf")) == float("inf"), "none came any more"


def test_it_passes_only_where_nothing_was_broken_and_every_edge_was_heard_at_each_step(trial: ModuleType) -> None:
    good = {"lost": {"a": 0}, "by_step": {"N-1": {"a": 3}, "N": {"a": 1}}}
    assert trial.passed(trial.Seen(**good))
    for broken in (
        {"lost": {"a": 1}},
        {"twice": 1},
        {"unseen": ["a 1 corrupt"]},
        {"restarted": ["a"]},
        {"by_step": {"N-1": {"a": 3}, "N": {"a": 0}}},
    ):
        assert not trial.passed(trial.Seen(**{**good, **broken})), broken


def test_its_table_has_a_line_for_each_edge(trial: ModuleType) -> None:
    seen = trial.Seen(
        acked={"a": 4}, stored={"a": 5}, lost={"a": 0}, by_step={"N-1": {"a": 3}, "N": {"a": 1}}, gaps={"N": 6.44}
    )
    lines = trial.report(seen).splitlines()
    assert lines[1].split() == ["a", "4", "5", "0", "3", "1"]
    assert "seconds without an acknowledgement, N  6.4" in lines


def test_an_import_root_is_an_installation_of_its_own(trial: ModuleType, tmp_path: Path) -> None:
    root = trial.import_root(ROOT, tmp_path / "root")
    program = (
        "import culling.common.clock as clock, importlib.metadata as told; print(clock.__file__); "
        "print(*sorted(one.value for one in told.entry_points(group='culling.commands')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, commands = done.stdout.splitlines()
    assert path == str(root / "culling" / "common" / "clock.py")
    assert commands


def test_its_commands_are_there() -> None:
    for words in (
        ["cloud", "serve", "--config"],
        ["cloud", "enroll", "--out", "--config"],
        ["cloud", "backup", "--config"],
        ["cloud", "restore", "--config"],
        ["cloud", "downgrade", "--config"],
        ["cloud", "fsck", "--config"],
        ["edge", "run", "--config"],
    ):
        assert unknown_words(words) == []
