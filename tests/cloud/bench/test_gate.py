from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from culling.cloud.bench import gate as bench
from culling.cloud.bench.gate import Recording, _Frame, _rows
from culling.common.cli import main
from support.judged import seen

STUDENTS = (0.9, 0.8, 0.6)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """What three students of those recalls did on sixty frames."""
    rng, frames = np.random.default_rng(2), []
    for _ in range(60):
        objects = [int(rng.poisson(5)), 0, int(rng.poisson(2)), 0, 0, 0]
        frames.append(_Frame(objects, [_rows(seen(rng, objects, recall)) for recall in STUDENTS]))
    path = tmp_path / "yard.json"
    path.write_bytes(msgspec.json.encode(Recording("yard.mp4", [f"student {one:g}" for one in STUDENTS], frames)))
    return path


def test_the_shares_of_three_kinds_of_pairs_are_told(
    record: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CALIBRATION", 10)
    words = ["bench", "gate", "--record", str(record), "--trials", "4", "--judges", "40", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["equal", "better", "night"]
    for one in told.values():
        assert 0 <= one["published"] <= 1
        assert (one["trials"], one["judges"], one["source"], one["seed"]) == (4, 40, "yard.mp4", 0)
    assert told["better"]["gain"]["day"] == pytest.approx(0.05, abs=0.02)
    assert told["night"]["gain"]["night"] == pytest.approx(-0.1, abs=0.02)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == told, "a seed gives the same trials"


def test_a_record_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "yard.json").write_text("{torn")
    assert main(["bench", "gate", "--record", str(tmp_path / "yard.json")]) == 3
    assert "remove it to record again" in capsys.readouterr().err
