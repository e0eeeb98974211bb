"""Raise an alarm when a person is in an area at night, once for each visit.

    python examples/night_alarm.py tcp://127.0.0.1:5580 --camera yard --zone fence
    python examples/night_alarm.py detections.jsonl --camera yard --area 0.2,0.5,0.8,1.0 --night 22-6

The area is a `zone` of the camera, or a rectangle in fractions of the frame. A person has to be there in three records
in a row, and to be gone for a minute before the next alarm. `--run COMMAND` is run for each alarm, with the record as
JSON on its standard input.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

import msgspec

from culling.common.detections import Record, follow

IN_A_ROW = 3
"""A single frame may be a mistake of the student."""
GONE_S = 60.0


@dataclass(frozen=True)
class Area:
    """Where nobody should be: a zone of the camera, or a rectangle in fractions of the frame."""

    zone: str | None = None
    rectangle: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def holds(self, record: Record) -> bool:
        """Return whether a person stands in it."""
        people = [one for one in record.detections if one.label == "person"]
        if self.zone is not None:
            return any(self.zone in one.zones for one in people)
        left, top, right, bottom = self.rectangle
        feet = [((one.box[0] + one.box[2]) / 2 / record.width, one.box[3] / record.height) for one in people]
        return any(left <= x <= right and top <= y <= bottom for x, y in feet)


@dataclass(frozen=True)
class Night:
    """From one hour to another, which may be on the next day."""

    begins: int = 22
    ends: int = 6
    zone: tzinfo | None = None

    def at(self, seconds: float) -> bool:
        """Return whether it is night at a time in seconds since the epoch."""
        hour = datetime.fromtimestamp(seconds, self.zone).hour
        return self.begins <= hour < self.ends if self.begins < self.ends else not self.ends <= hour < self.begins


def alarms(records: Iterable[Record], area: Area, night: Night) -> Iterator[Record]:
    """Yield the frame in which each visit becomes certain."""
    in_a_row, last, before = 0, -GONE_S, 0.0
    for record in records:
        in_a_row, before = (in_a_row if record.at - before < GONE_S else 0), record.at
        if not (night.at(record.at) and area.holds(record)):
            in_a_row = 0
            continue
        in_a_row += 1
        if in_a_row >= IN_A_ROW:
            if record.at - last >= GONE_S:
                yield record
            last = record.at


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and watch for as long as records come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, tcp://HOST:PORT, or -")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--zone", help="a zone of the camera's settings")
    parser.add_argument("--area", default="0,0,1,1", help="x1,y1,x2,y2 in fractions of the frame")
    parser.add_argument("--night", default="22-6", help="hours between which it is night")
    parser.add_argument("--utc-offset", type=float, default=None, help="hours; default: this machine's own time")
    parser.add_argument("--run", help="command for each alarm")
    parser.add_argument("--timeout", type=float, default=None, help="end after so many seconds without a record")
    told = parser.parse_args(argv)
    begins, ends = map(int, told.night.split("-"))
    zone = None if told.utc_offset is None else timezone(timedelta(hours=told.utc_offset))
    left, top, right, bottom = map(float, told.area.split(","))
    area = Area(told.zone, (left, top, right, bottom))
    for record in alarms(
        follow(told.source, cameras=[told.camera], timeout_s=told.timeout), area, Night(begins, ends, zone)
    ):
        print(
            f"{datetime.fromtimestamp(record.at, zone):%Y-%m-%d %H:%M:%S} {record.camera}: somebody is there",
            flush=True,
        )
        if told.run:
            subprocess.run(told.run, shell=True, input=msgspec.json.encode(record), check=False)


if __name__ == "__main__":
    main()
