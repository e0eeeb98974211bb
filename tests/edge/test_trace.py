from __future__ import annotations

import json
from pathlib import Path

import pytest

from culling.common.errors import StorageError
from culling.edge.trace import Trace, TraceLine
from support.clock import FakeClock


def line(frame: int) -> TraceLine:
    return TraceLine("gate", frame, 1_800_000_000.5, "gate-1", 2.5, "forward:hard", 0.25)


def test_every_line_is_json_under_stable_keys(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.jsonl", FakeClock())
    trace.write(line(1))
    trace.close()

    [written] = (tmp_path / "trace.jsonl").read_text().splitlines()

    assert json.loads(written) == {
        "camera": "gate",
        "frame": 1,
        "t": 1_800_000_000.5,
        "model_id": "gate-1",
        "loss": 2.5,
        "decision": "forward:hard",
        "latency": 0.25,
    }


def test_lines_are_written_together_once_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "trace.jsonl", FakeClock()
    trace = Trace(path, clock)
    trace.write(line(1))
    clock.advance(0.9)
    trace.write(line(2))
    assert path.read_text() == ""

    clock.advance(0.2)
    trace.write(line(3))

    assert len(path.read_text().splitlines()) == 3
    trace.close()


def test_a_new_start_adds_to_the_file(tmp_path: Path) -> None:
    for frame in (1, 2):
        trace = Trace(tmp_path / "trace.jsonl", FakeClock())
        trace.write(line(frame))
        trace.close()

    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 2


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"agent\.trace"):
        Trace(tmp_path / "none" / "trace.jsonl", FakeClock())


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    trace = Trace(Path("/dev/full"), FakeClock())
    trace.write(line(1))

    trace.close()
