from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from culling.cloud.bill.cli import app
from culling.common.errors import SettingsError


def test_a_day_at_the_defaults_meets_what_was_asked_of_it() -> None:
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["ratio_incremental"] >= 400
    assert told["ratio_paper"] >= 60
    assert told["gflops"] == pytest.approx(sum(told["parts"].values()))
    assert told["ratio"] == pytest.approx(told["full"] / told["gflops"])


def test_it_reads_as_a_table() -> None:
    done = CliRunner().invoke(app, ["--frame", "640x480", "--rounds", "3"])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[:2]] == ["edge", "labels"]
    assert "without the edge" in done.stdout


def test_a_frame_without_a_size_is_refused() -> None:
    done = CliRunner().invoke(app, ["--frame", "large"])
    assert isinstance(done.exception, SettingsError)
    assert "1280x720" in str(done.exception)
