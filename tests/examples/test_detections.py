from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from culling.common.detections import Detection, Record
from support.scripts import loaded

FOLDER = Path(__file__).parents[2] / "examples"
NOON, MIDNIGHT = 1_800_014_400.0, 1_800_057_600.0  # 2027-01-15, 12:00 and 24:00 UTC


def example(name: str) -> ModuleType:
    return loaded(FOLDER / f"{name}.py")


def record(seq: int, at: float, *found: tuple[str, float, float], zones: Sequence[str] = ()) -> Record:
    """A frame of 100 × 100 pixels with boxes of 10 × 10, each given by its class and where it stands."""
    boxes = [Detection(label, 0.9, (x - 5, y - 10, x + 5, y), zones=tuple(zones)) for label, x, y in found]
    return Record(
        camera="gate", model="gate-1", counter=1, seq=seq, pts=seq / 25, at=at, width=100, height=100,
        decision="skip", reason="below", loss=1.0, detections=tuple(boxes),
    )  # fmt: skip


def written(path: Path, records: Sequence[Record]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records))
    return path


def test_cars_are_counted_by_the_direction_in_which_they_cross(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [
        record(n, NOON + n / 25, ("car", 30, 30 + 2 * n), ("car", 70, 80 - 2 * n), ("person", 50, 30 + 2 * n))
        for n in range(25)
    ]
    path = written(tmp_path / "d.jsonl", frames)
    example("line_count").main([str(path), "--camera", "gate", "--timeout", "0"])
    assert capsys.readouterr().out.splitlines()[-1] == "1 in, 1 out"
    example("line_count").main([str(path), "--camera", "gate", "--timeout", "0", "--line", "0.5,0.9,0.9,0.9"])
    assert capsys.readouterr().out == "0 in, 0 out\n"


def test_a_car_that_is_not_seen_for_a_moment_counts_once() -> None:
    count = example("line_count")
    counter = count.Counter(((0.0, 0.5), (1.0, 0.5)))
    for n in range(25):
        counter.see(record(n, NOON, *[("car", 30, 30 + 2 * n)] if n % 5 else ()))
    assert (counter.into, counter.out) == (1, 0)


def test_somebody_at_night_is_one_alarm_a_visit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def visit(first: int, begins: float) -> list[Record]:
        return [record(first + n, begins + n / 5, ("person", 50, 90)) for n in range(20)]

    frames = [
        *visit(0, NOON),
        *visit(20, MIDNIGHT),
        *[record(40 + n, MIDNIGHT + 30 + n, ("person", 50, 90)) for n in range(2)],
        *visit(50, MIDNIGHT + 600),
        record(80, MIDNIGHT + 1200, ("person", 50, 90)),
    ]
    path = written(tmp_path / "d.jsonl", frames)
    told = [str(path), "--camera", "gate", "--timeout", "0", "--utc-offset", "0", "--run", f"cat > {tmp_path}/alarm"]
    example("night_alarm").main([*told, "--area", "0.2,0.5,0.8,1"])
    assert capsys.readouterr().out.splitlines() == [
        "2027-01-16 00:00:00 gate: somebody is there",
        "2027-01-16 00:10:00 gate: somebody is there",
    ]
    assert json.loads((tmp_path / "alarm").read_bytes())["seq"] == 52
    example("night_alarm").main([*told, "--area", "0,0,0.2,0.2"])
    assert capsys.readouterr().out == ""


def test_an_area_may_be_a_zone_of_the_camera_and_a_night_may_end_before_midnight() -> None:
    alarm = example("night_alarm")
    there = [record(n, MIDNIGHT + n, ("person", 50, 90), zones=["fence"]) for n in range(5)]
    night = alarm.Night(zone=UTC)
    assert [one.seq for one in alarm.alarms(there, alarm.Area("fence"), night)] == [2]
    assert list(alarm.alarms(there, alarm.Area("yard"), night)) == []
    assert list(alarm.alarms(there, alarm.Area("fence"), alarm.Night(10, 14, UTC))) == []


def test_records_are_kept_once_and_plotted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [record(n, NOON + 600 * n, ("car", 30, 30), *[("person", 50, 50)] * (n % 3)) for n in range(30)]
    path, db, out = written(tmp_path / "d.jsonl", frames), tmp_path / "d.sqlite", tmp_path / "day.png"
    for kept in (30, 0):
        example("to_sqlite").main([str(path), "--db", str(db), "--plot", str(out)])
        assert capsys.readouterr().out.startswith(f"kept {kept} records")
    assert out.read_bytes().startswith(b"\x89PNG")
    found = sqlite3.connect(db)
    assert found.execute("SELECT COUNT(*) FROM boxes").fetchone() == (60,)
    hours = found.execute(example("to_sqlite").PER_HOUR).fetchall()
    assert [mean for label, _, mean in hours if label == "car"] == [1.0] * 5
    found.close()


def by_teacher(of: Record, *found: tuple[str, float, float]) -> Record:
    boxes = record(of.seq, of.at, *found).detections
    return msgspec.structs.replace(of, by="teacher", teacher="bundled", detections=boxes)


def test_what_the_teacher_changed_is_told_of_each_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [record(n, 100.0 + n, ("car", 30, 30), ("person", 50, 50)) for n in range(8)]  # long ago: none is timed
    frames[0] = by_teacher(frames[0], ("bus", 30, 30))  # nothing came before it
    frames[3] = by_teacher(frames[3], ("car", 30, 30), ("car", 70, 30))
    frames[4] = by_teacher(frames[4], ("car", 30, 30), ("person", 50, 50))
    other = [msgspec.structs.replace(one, camera="yard") for one in frames[1:3]]
    path = written(tmp_path / "d.jsonl", frames + other)
    example("cascade").main([str(path)])
    assert capsys.readouterr().out.splitlines() == [
        "gate: 8 records, 3 of them by the teacher (38%)",
        "  1 of these count other boxes than the student's record before: +1 car, -1 person in all",
        "yard: 2 records, 0 of them by the teacher (0%)",
    ]


def test_records_that_come_while_somebody_looks_are_timed() -> None:
    frames = [record(n, NOON + n) for n in range(4)]
    frames[3] = by_teacher(frames[3])
    ticks = iter((NOON + 3.5, NOON + 7.0))
    found = example("cascade").summary(frames, NOON + 2, lambda: next(ticks))
    assert list(found["gate"].lines("gate"))[-2:] == [
        "  by the student: 1.5 s on their way (median), 1.5 s at most",
        "  by the teacher: 4.0 s on their way (median), 4.0 s at most",
    ]
