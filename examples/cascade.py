"""Tell what the teacher's answers brought, camera by camera, from an edge's detections (docs/cascade.md).

    python examples/cascade.py detections.jsonl                          what is there now
    python examples/cascade.py tcp://127.0.0.1:5580 --timeout 60         until nothing came for a minute

A record says whose its boxes are and not what the student had found, so each of the teacher's is held against the
student's last one before it, of the same camera. How long records were on their way is known of those that come while
this looks: from the capture of a frame to the moment at which its record is read.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from culling.common.detections import Record, follow


@dataclass
class Told:
    """What the records of one camera come to; `changed` are boxes by class, more or fewer than just before."""

    records: int = 0
    by_teacher: int = 0
    otherwise: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    waits: dict[str, list[float]] = field(default_factory=lambda: {"student": [], "teacher": []})
    before: Counter[str] | None = None

    def see(self, record: Record, wait_s: float | None) -> None:
        """Count a record, which was on its way for so many seconds; None where nobody knows."""
        self.records += 1
        if wait_s is not None:
            self.waits[record.by].append(wait_s)
        found = Counter(record.counts())
        if record.by == "student":
            self.before = found
            return
        self.by_teacher += 1
        if self.before is not None and found != self.before:
            self.otherwise += 1
            self.changed.update(found)
            self.changed.subtract(self.before)

    def lines(self, camera: str) -> Iterator[str]:
        """Yield what is told of that camera."""
        share = self.by_teacher / self.records
        yield f"{camera}: {self.records} records, {self.by_teacher} of them by the teacher ({share:.0%})"
        if self.by_teacher:
            classes = ", ".join(f"{count:+d} {label}" for label, count in sorted(self.changed.items()) if count)
            other = f"{self.otherwise} of these count other boxes than the student's record before"
            yield f"  {other}{f': {classes} in all' if classes else ''}"
        for by, waits in self.waits.items():
            if waits:
                yield f"  by the {by}: {median(waits):.1f} s on their way (median), {max(waits):.1f} s at most"


def summary(records: Iterable[Record], since: float, clock: Callable[[], float] = time.time) -> dict[str, Told]:
    """Return what records come to, by camera; those captured `since` then, epoch seconds, are timed as they come."""
    cameras: dict[str, Told] = {}
    for record in records:
        wait_s = clock() - record.at if record.at >= since else None
        cameras.setdefault(record.camera, Told()).see(record, wait_s)
    return cameras


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and tell of every camera once no more records come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, tcp://HOST:PORT, or -")
    parser.add_argument("--timeout", type=float, default=0.0, help="end after so many seconds without a record")
    told = parser.parse_args(argv)
    for camera, one in sorted(summary(follow(told.source, timeout_s=told.timeout), time.time()).items()):
        print("\n".join(one.lines(camera)))


if __name__ == "__main__":
    main()
