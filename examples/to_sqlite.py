"""Keep an edge's detections in SQLite, and plot how many of each class there were over the day.

    python examples/to_sqlite.py detections.jsonl --db detections.sqlite --plot day.png
    python examples/to_sqlite.py tcp://127.0.0.1:5580 --db detections.sqlite

A record that was kept before is left out, so that a file may be read again. With `--plot` it ends when the file does.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.figure import Figure

from culling.common.detections import Record, follow

TABLES = """
CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY, camera TEXT, at REAL, seq INTEGER, model TEXT, loss REAL, UNIQUE (camera, at, seq)
);
CREATE TABLE IF NOT EXISTS boxes (
    frame INTEGER REFERENCES frames, label TEXT, score REAL, x1 REAL, y1 REAL, x2 REAL, y2 REAL
);
CREATE INDEX IF NOT EXISTS boxes_frame ON boxes (frame);
"""
PER_HOUR = """
SELECT label, CAST(at / 3600 AS INTEGER) AS hour, COUNT(*) * 1.0 / frames_of_hour FROM boxes
JOIN frames ON frames.id = boxes.frame
JOIN (SELECT CAST(at / 3600 AS INTEGER) AS its_hour, COUNT(*) AS frames_of_hour FROM frames GROUP BY its_hour)
ON its_hour = hour GROUP BY label, hour ORDER BY label, hour
"""
TOGETHER = 500
"""Records to a transaction."""


def keep(records: Iterable[Record], db: sqlite3.Connection) -> int:
    """Write records that are not there yet; return how many."""
    db.executescript(TABLES)
    kept = 0
    for number, record in enumerate(records, 1):
        told = (record.camera, record.at, record.seq, record.model, record.loss)
        done = db.execute("INSERT OR IGNORE INTO frames VALUES (NULL, ?, ?, ?, ?, ?)", told)
        if done.rowcount:
            boxes = [(done.lastrowid, one.label, one.score, *one.box) for one in record.detections]
            db.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?)", boxes)
            kept += 1
        if number % TOGETHER == 0:
            db.commit()
    db.commit()
    return kept


def plot(db: sqlite3.Connection, out: Path) -> None:
    """Write a plot of the mean number of boxes in a frame, by class and hour."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    found: dict[str, list[tuple[datetime, float]]] = {}
    for label, hour, mean in db.execute(PER_HOUR):
        found.setdefault(label, []).append((datetime.fromtimestamp(3600 * hour, UTC), mean))
    for label, points in found.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xlabel="hour (UTC)", ylabel="boxes in a frame", ylim=(0, None))
    if found:
        axes.legend(fontsize="small")
    figure.savefig(out, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and keep records for as long as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, tcp://HOST:PORT, or -")
    parser.add_argument("--db", type=Path, default=Path("detections.sqlite"))
    parser.add_argument("--plot", type=Path, help="picture to write at the end")
    parser.add_argument("--timeout", type=float, default=None, help="end after so many seconds without a record")
    told = parser.parse_args(argv)
    timeout = 0.0 if told.plot and told.timeout is None else told.timeout
    with closing(sqlite3.connect(told.db)) as db:
        print(f"kept {keep(follow(told.source, timeout_s=timeout), db)} records in {told.db}")
        if told.plot:
            plot(db, told.plot)


if __name__ == "__main__":
    main()
