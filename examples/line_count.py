"""Count the cars that cross a line, by direction, from an edge's detections.

    python examples/line_count.py /var/lib/culling-edge/detections.jsonl --camera north-door --line 0.0,0.6,1.0,0.6
    python examples/line_count.py tcp://127.0.0.1:5580 --camera north-door --label bus

The line goes from its first point to its second, in fractions of the frame; what crosses it to its right counts as
in. An object is followed from frame to frame by its box: the one that overlaps most is the same. The output must tell
of every frame (`every = "frame"`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from culling.common.detections import Detection, Record, follow

Point = tuple[float, float]
SAME = 0.3
"""IoU from which two boxes in successive frames are the same object."""
PATIENCE = 5
"""Frames that an object may go unseen."""


@dataclass
class Track:
    """An object on its way: its newest box, where its feet were, and for how many frames it has not been seen."""

    box: tuple[float, float, float, float]
    feet: Point
    unseen: int = 0


@dataclass
class Counter:
    """Counts crossings of the line between two points, in fractions of the frame."""

    line: tuple[Point, Point]
    label: str = "car"
    into: int = 0
    out: int = 0
    tracks: list[Track] = field(default_factory=list)

    def see(self, record: Record) -> int:
        """Follow every object into a frame; return how many crossed the line."""
        before = self.into + self.out
        left = [one for one in record.detections if one.label == self.label]
        for track in self.tracks:
            best = max(left, key=lambda one: overlap(track.box, one.box), default=None)
            if best is None or overlap(track.box, best.box) < SAME:
                track.unseen += 1
                continue
            left.remove(best)
            self._move(track, best, record)
        self.tracks = [track for track in self.tracks if track.unseen <= PATIENCE]
        self.tracks += [Track(one.box, feet(one, record)) for one in left]
        return self.into + self.out - before

    def _move(self, track: Track, to: Detection, record: Record) -> None:
        now = feet(to, record)
        if crosses(track.feet, now, *self.line):
            if side(now, *self.line) >= 0:
                self.into += 1
            else:
                self.out += 1
        track.box, track.feet, track.unseen = to.box, now, 0


def feet(found: Detection, record: Record) -> Point:
    """Return where an object stands, in fractions of the frame: the middle of its lower edge."""
    left, _, right, bottom = found.box
    return (left + right) / 2 / record.width, bottom / record.height


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the IoU of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def side(point: Point, start: Point, end: Point) -> float:
    """Return on which side of the line a point is: above 0 on its right, as the frame shows it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def crosses(a: Point, b: Point, start: Point, end: Point) -> bool:
    """Return whether the way from `a` to `b` crosses the line."""
    apart = (side(a, start, end) >= 0) != (side(b, start, end) >= 0)  # one who stands on the line has crossed it
    return apart and side(start, a, b) * side(end, a, b) <= 0


def count(records: Iterable[Record], counter: Counter) -> Iterator[str]:
    """Yield a line for each frame in which something crossed."""
    for record in records:
        if counter.see(record):
            yield f"{record.at:.2f} {record.camera}: {counter.into} in, {counter.out} out"


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and count for as long as records come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, tcp://HOST:PORT, or -")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--label", default="car")
    parser.add_argument("--line", default="0,0.5,1,0.5", help="x1,y1,x2,y2 in fractions of the frame")
    parser.add_argument("--timeout", type=float, default=None, help="end after so many seconds without a record")
    told = parser.parse_args(argv)
    x1, y1, x2, y2 = map(float, told.line.split(","))
    counter = Counter(((x1, y1), (x2, y2)), told.label)
    for line in count(follow(told.source, cameras=[told.camera], timeout_s=told.timeout), counter):
        print(line, flush=True)
    print(f"{counter.into} in, {counter.out} out")


if __name__ == "__main__":
    main()
