from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from culling.common.detections import decode, follow, rotated
from culling.common.errors import StorageError
from culling.edge.output.sink import DownError
from support.clock import FakeClock
from support.disks import fill, small_disk
from support.outputs import Working, batch, settings, sink
from support.waiting import wait_until


def writer(path: Path, clock: FakeClock | None = None, **told: Any) -> Any:
    opened = sink(settings("jsonl", path=path, **told), clock or FakeClock())
    opened.open()
    return opened


def sequences(path: Path) -> list[int]:
    return [record.seq for record in follow(path, timeout_s=0)]


def test_each_record_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "detections.jsonl"
    with_lines = writer(path)
    with_lines.send(batch(3))
    with_lines.close()
    assert [decode(line).seq for line in path.read_bytes().splitlines()] == [0, 1, 2]


def test_a_full_file_is_rotated_and_gzipped_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "detections.jsonl"
    lines = writer(path, max_bytes=1024, keep=3)
    for number in range(0, 60, 3):
        lines.send(batch(3, first=number))
        wait_until(lambda: not lines._packer.is_alive())
    lines.close()
    parts = rotated(path)
    assert len(parts) == 3
    assert all(part.suffix == ".gz" for part in parts.values())
    assert all(len(gzip.decompress(part.read_bytes())) <= 1024 for part in parts.values())
    assert sequences(path) == list(range(60))[-len(sequences(path)) :]
    assert not list(tmp_path.glob("*.part"))


def test_an_old_file_is_rotated_also_without_a_record(tmp_path: Path) -> None:
    clock = FakeClock()
    lines = writer(tmp_path / "d.jsonl", clock, max_age_s=3600, gzip=False)
    lines.send(batch(2))
    lines.tend()
    assert rotated(tmp_path / "d.jsonl") == {}
    clock.advance(3601)
    lines.tend()
    lines.tend()
    assert list(rotated(tmp_path / "d.jsonl")) == [1]
    assert (tmp_path / "d.jsonl").read_bytes() == b""
    lines.close()


def test_the_age_of_a_file_survives_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()  # its time is that of the records
    lines = writer(tmp_path / "d.jsonl", clock, max_age_s=3600)
    lines.send(batch(2))
    lines.close()
    clock.advance(3601)
    again = writer(tmp_path / "d.jsonl", clock, max_age_s=3600)
    again.tend()
    assert list(rotated(tmp_path / "d.jsonl")) == [1]
    again.close()


def test_half_a_line_of_a_power_cut_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    lines = writer(path)
    lines.send(batch(2))
    lines.close()
    path.write_bytes(path.read_bytes()[:-20])
    bad: list[bytes] = []
    lines = writer(path)
    lines.send(batch(1, first=5))
    lines.close()
    assert [record.seq for record in follow(path, timeout_s=0, on_bad=bad.append)] == [0, 5]
    assert len(bad) == 1


def test_a_part_that_a_crash_left_is_gzipped_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    (tmp_path / "d.jsonl.000004").write_bytes(b"")
    lines = writer(path)
    wait_until(lambda: rotated(path).get(4, path).suffix == ".gz")
    lines.close()


def whole_lines(data: bytes) -> bool:
    return data.endswith(b"\n") and all(decode(line) for line in data.splitlines())


@pytest.mark.fault
def test_a_full_disk_leaves_whole_lines_and_nothing_is_lost_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        path = disk / "d.jsonl"
        working = Working(sink(settings("jsonl", path=path, queue=5000)))
        working.offer(100)
        working.wait_for(100)
        filler = fill(disk)
        working.offer(3000, first=100)
        wait_until(lambda: "No space left" in working.outlet.problem)
        wait_until(lambda: whole_lines(path.read_bytes()))  # not while a try that will fail is being written
        filler.unlink()
        working.wait_for(3100, 30)
        working.close()
        assert sequences(path) == list(range(3100))
        assert working.dropped == {}


def test_a_path_that_cannot_be_written_is_down_and_said_by_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = sink(settings("jsonl", path=tmp_path / "file" / "d.jsonl"))
    with pytest.raises(DownError, match="cannot be written"):
        lines.open()
    for path in (tmp_path, tmp_path / "file" / "d.jsonl", Path("/proc/none/d.jsonl")):
        with pytest.raises(StorageError, match="is not writable"):
            sink(settings("jsonl", path=path)).check()
    assert "is writable" in sink(settings("jsonl", path=tmp_path / "new" / "d.jsonl")).check()
    assert not (tmp_path / "new").exists()
