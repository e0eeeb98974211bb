from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from culling.common import detections
from culling.common.detections import Record, UnknownVersionError, decode, follow, rotated
from support.outputs import batch, records, settings, sink
from support.waiting import LONG_S, wait_until

LINES = [msgspec.json.encode(record) + b"\n" for record in records(100)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detections, "POLL_S", 0.01)


class Follower(threading.Thread):
    """Follows a file beside the test."""

    def __init__(self, path: Path, **told: Any) -> None:
        super().__init__(daemon=True)
        self.got: list[int] = []
        self._found: Iterator[Record] = follow(path, timeout_s=60, **told)
        self.start()

    def run(self) -> None:
        self.got.extend(record.seq for record in self._found)

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.got) >= count)


Following = Callable[..., Follower]


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    """Followers that end with the test, or they would open what the next one has changed."""
    made: list[Follower] = []
    ended, wait = threading.Event(), detections._Idle.wait

    def wait_unless_ended(idle: detections._Idle) -> bool:
        if ended.is_set():
            idle._timeout_s = 0
        return wait(idle)

    def start(path: Path, **told: Any) -> Follower:
        made.append(Follower(path, **told))
        return made[-1]

    monkeypatch.setattr(detections._Idle, "wait", wait_unless_ended)
    yield start
    ended.set()
    for follower in made:
        follower.join(LONG_S)
        assert not follower.is_alive()


def test_a_record_of_a_later_version_is_told_from_nonsense() -> None:
    assert decode(LINES[0]).v == 1
    later = LINES[0].replace(b'"v":1', b'"v":2')
    with pytest.raises(UnknownVersionError, match="a record of version 2: this reader knows version 1"):
        decode(later)
    for nonsense in (b"", b"{}", b"[1]", LINES[0][:-20], LINES[0].replace(b'"seq":0', b'"seq":-1')):
        with pytest.raises(msgspec.DecodeError):
            decode(nonsense)


def test_fields_of_a_later_version_that_are_only_added_are_ignored() -> None:
    assert decode(LINES[0].replace(b'"v":1', b'"v":1,"colour":"red"')) == decode(LINES[0])


def test_a_file_is_read_from_its_oldest_part_on(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    (tmp_path / "d.jsonl.000009.gz").write_bytes(gzip.compress(b"".join(LINES[:10])))
    (tmp_path / "d.jsonl.000010").write_bytes(b"".join(LINES[10:20]))
    path.write_bytes(b"".join(LINES[20:30]))
    (tmp_path / "d.jsonl.000011.gz.part").write_bytes(b"half")
    assert sorted(rotated(path)) == [9, 10]
    assert [record.seq for record in follow(path, timeout_s=0)] == list(range(30))
    assert [record.seq for record in follow(path, timeout_s=0, start="end")] == []
    assert [record.seq for record in follow(path, timeout_s=0, cameras=["yard"])] == []


def test_a_file_is_followed_through_rotations_and_before_it_exists(tmp_path: Path, following: Following) -> None:
    path = tmp_path / "d.jsonl"
    follower = following(path)
    writer = sink(settings("jsonl", path=path, max_bytes=1024, keep=100))
    writer.open()
    for number in range(200):
        writer.send(batch(1, first=number))
    follower.wait_for(200)
    writer.close()
    assert follower.got == list(range(200))


def test_rotations_between_opening_a_file_and_reading_it_skip_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINES[0])
    opened, numbers = detections._open_newest, iter((1, 2))

    def opened_and_rotated(path: Path, following: int) -> Any:
        file = opened(path, following)
        for number in numbers:
            os.rename(path, tmp_path / f"d.jsonl.{number:06}")
            path.write_bytes(LINES[number])
        return file

    monkeypatch.setattr(detections, "_open_newest", opened_and_rotated)
    assert [record.seq for record in follow(path, timeout_s=0)] == [0, 1, 2]


def test_a_part_that_is_gzipped_while_a_folder_is_looked_at_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINES[1])
    (tmp_path / "d.jsonl.000001").write_bytes(LINES[0])
    look, missed = detections._parts, iter([dict[int, Path]()])
    monkeypatch.setattr(detections, "_parts", lambda path: next(missed, look(path)))
    assert [record.seq for record in follow(path, timeout_s=0)] == [0, 1]


def test_from_its_end_only_what_is_new_is_read(tmp_path: Path, following: Following) -> None:
    path = tmp_path / "d.jsonl"
    (tmp_path / "d.jsonl.000001").write_bytes(LINES[0])
    path.write_bytes(b"".join(LINES[:10]))
    follower = following(path, start="end")
    number = 9
    while not follower.got:  # until it has begun
        number += 1
        with path.open("ab") as file:
            file.write(LINES[number])
        follower.join(0.05)
    os.rename(path, tmp_path / "d.jsonl.000002")
    path.write_bytes(LINES[99])
    wait_until(lambda: follower.got[-1] == 99)
    assert follower.got == [*range(follower.got[0], number + 1), 99]


def test_a_line_is_read_when_it_is_whole(tmp_path: Path, following: Following) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINES[0] + LINES[1][:30])
    follower = following(path)
    follower.wait_for(1)
    with path.open("ab") as file:
        file.write(LINES[1][30:])
    follower.wait_for(2)
    assert follower.got == [0, 1]


def test_a_file_that_is_emptied_is_read_from_its_start(tmp_path: Path, following: Following) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"".join(LINES[:10]))
    follower = following(path)
    follower.wait_for(10)
    os.truncate(path, 0)
    wait_until(lambda: path.stat().st_size == 0)
    follower.join(0.1)
    with path.open("ab") as file:
        file.write(LINES[50])
    follower.wait_for(11)
    assert follower.got[-1] == 50


def test_it_needs_nothing_else_of_culling(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_bytes(Path(detections.__file__).read_bytes())
    (tmp_path / "d.jsonl").write_bytes(LINES[0])
    code = "import reader, sys; print(len(list(reader.follow('d.jsonl', timeout_s=0))), 'culling' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.stdout.strip() == "1 False", done.stderr
