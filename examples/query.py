"""Write the seconds at which a video shows what is asked for as cuts for FFmpeg, from what `culling query` found.

    culling query yard.mp4 "car >= 3" --error 0.05 --out found
    python examples/query.py found/query.json yard.mp4 --around 2

It prints one command for each stretch of time; those that lie close together become one. Nothing is encoded anew, so
that a cut begins with the key frame before.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path


def stretches(intervals: Sequence[dict[str, float]], around: float) -> Iterator[tuple[float, float]]:
    """Yield start and end in seconds, `around` so much longer at either end; what overlaps is joined."""
    last: tuple[float, float] | None = None
    for one in intervals:
        start, end = max(0.0, one["start_s"] - around), one["end_s"] + around
        if last is not None and start <= last[1]:
            last = last[0], end
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path, help="query.json")
    parser.add_argument("video", type=Path, help="the video that was asked")
    parser.add_argument("--around", type=float, default=1.0, help="seconds to keep before and after (1)")
    told = parser.parse_args(argv)
    found = json.loads(told.found.read_text())
    for number, (start, end) in enumerate(stretches(found["intervals"], told.around), 1):
        cut = told.video.with_name(f"{told.video.stem}-{number:03}{told.video.suffix}")
        command = ["ffmpeg", "-ss", f"{start:.2f}", "-to", f"{end:.2f}", "-i", str(told.video), "-c", "copy", str(cut)]
        print(shlex.join(command))


if __name__ == "__main__":
    main()
