"""What one transaction does to the spool's rows and counters; `spool.py` owns the file and the lock around it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import msgspec

from culling.common.clock import DAY_S

Counters: TypeAlias = Counter[tuple[str, str]]
"""Counts by camera and name. The spool's own have the camera ""; `seq` is the number of the last frame made. `day` is a
camera's last day, counted from the epoch, on which frames left: `day-frames` of them, of `day-bytes`."""

QUARANTINED, HELD = -1, 0
READY_RANK = {"hard": 1, "audit": 2, "bootstrap": 3, "manual": 3}
"""The order in which frames are given up, lowest first."""
ROW_BYTES = 512
"""Rough size of a row without its three blobs, index entries included."""
SIZE = f"length(jpeg) + length(detections) + length(features) + {ROW_BYTES}"

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    seq INTEGER PRIMARY KEY, rank INTEGER NOT NULL, boot TEXT NOT NULL, camera TEXT NOT NULL,
    frame INTEGER NOT NULL, pts REAL NOT NULL, captured REAL NOT NULL, reason TEXT NOT NULL, loss REAL NOT NULL,
    worth REAL NOT NULL, model_id TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, sha256 TEXT NOT NULL,
    seal BLOB NOT NULL, detections BLOB NOT NULL, features BLOB NOT NULL, jpeg BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS least_valuable ON frames (rank, worth, seq DESC);
CREATE INDEX IF NOT EXISTS held ON frames (camera, worth DESC, seq) WHERE rank = 0;
CREATE INDEX IF NOT EXISTS ready ON frames (seq) WHERE rank > 0;
CREATE TABLE IF NOT EXISTS counters (
    camera TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (camera, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Spooled:
    """One spooled frame; `seq` counts all frames ever made, `frame` is its place in the stream.

    `worth` is what it was chosen by. `detections` is a `WireDetections` and `features` a `WireFeatures` in MessagePack,
    `sha256` the hex digest of `jpeg`.
    """

    boot: str
    seq: int
    camera: str
    frame: int
    pts: float
    captured: float
    reason: str
    loss: float
    worth: float
    model_id: str
    width: int
    height: int
    detections: bytes
    features: bytes
    jpeg: bytes
    sha256: str

    def seal(self) -> bytes:
        """Return the digest of all fields; the JPEG enters by its own."""
        header = [getattr(self, name) for name in FIELDS if name != "jpeg"]
        return hashlib.sha256(msgspec.msgpack.encode(header)).digest()


FIELDS = tuple(field.name for field in fields(Spooled))


class Change:
    """One transaction: it changes rows at once, and a copy of the counters that replaces them on commit."""

    def __init__(self, db: sqlite3.Connection, stored: Counters, counters: Counters) -> None:
        self._db = db
        self._stored = stored
        self.counters = counters.copy()

    def save(self) -> None:
        """Write the counters that differ from what is stored."""
        changed = [(*key, value) for key, value in self.counters.items() if value != self._stored.get(key)]
        self._db.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", changed)

    def next_seq(self) -> int:
        """Return the next unused frame number."""
        self.counters["", "seq"] += 1
        return self.counters["", "seq"]

    def insert(self, spooled: Spooled, rank: int) -> None:
        """Add one row."""
        row = {name: getattr(spooled, name) for name in FIELDS} | {"rank": rank, "seal": spooled.seal()}
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._db.execute(f"INSERT INTO frames ({names}) VALUES ({marks})", row)
        self.counters[spooled.camera, "made"] += 1
        blobs = (spooled.jpeg, spooled.detections, spooled.features)
        self._count(spooled.camera, rank, 1, sum(map(len, blobs)) + ROW_BYTES)
        if rank != HELD:
            self._leave(spooled.camera, spooled.captured, len(spooled.jpeg))

    def evict_down_to(self, max_bytes: int) -> None:
        """Remove the least valuable rows until the others fit in `max_bytes`."""
        query = f"SELECT seq, camera, rank, {SIZE} FROM frames ORDER BY rank, worth, seq DESC LIMIT 1"
        while sum(value for (_, name), value in self.counters.items() if name == "bytes") > max_bytes:
            row = self._db.execute(query).fetchone()
            if row is None:
                raise MalformedError("rows and counters disagree")
            self._remove(row, "evicted.pressure")

    def release(self, camera: str, count: int, at: float) -> list[int]:
        """See `Spool.release`."""
        query = f"""SELECT seq, camera, rank, {SIZE}, length(jpeg) FROM frames
            WHERE camera = ? AND rank = 0 ORDER BY worth DESC, seq"""
        rows = self._db.execute(query, (camera,)).fetchall()
        for seq, *_, size in rows[:count]:
            self._set_rank(seq, READY_RANK["hard"])
            self.counters[camera, "held"] -= 1
            self.counters[camera, "ready"] += 1
            self._leave(camera, at, size)
        for row in rows[count:]:
            self._remove(row, "evicted.window")
        return [size for *_, size in rows[:count]]

    def held(self, camera: str) -> list[float]:
        """See `Spool.held`."""
        rows = self._db.execute("SELECT worth FROM frames WHERE camera = ? AND rank = 0", (camera,))
        return [worth for (worth,) in rows]

    def oldest(self) -> float | None:
        """See `Spool.oldest`."""
        row = self._db.execute("SELECT captured FROM frames WHERE rank > 0 ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else float(row[0])

    def read(self, limit: int, without: Collection[int]) -> list[Spooled | None]:
        """Return the oldest ready rows, `without` some; one with a wrong hash is quarantined, and None here."""
        query = f"""SELECT seal, {", ".join(FIELDS)} FROM frames
            WHERE rank > 0 AND seq NOT IN ({", ".join("?" * len(without))}) ORDER BY seq LIMIT ?"""
        return [self._checked(*row) for row in self._db.execute(query, (*without, limit)).fetchall()]

    def delete(self, boot: str, seq: int, counter: str) -> bool:
        """Remove that row if it is ready, and count it under `counter`; return whether it was."""
        query = f"SELECT seq, camera, rank, {SIZE} FROM frames WHERE seq = ? AND boot = ? AND rank > 0"
        row = self._db.execute(query, (seq, boot)).fetchone()
        if row is not None:
            self._remove(row, counter)
        return row is not None

    def quarantine(self, boot: str, seq: int) -> bool:
        """Set the ready row of this name aside, as one whose hash is wrong."""
        query = "SELECT camera FROM frames WHERE seq = ? AND boot = ? AND rank > 0"
        row = self._db.execute(query, (seq, boot)).fetchone()
        if row is not None:
            self._set_aside(seq, row[0])
        return row is not None

    def reconcile(self) -> None:
        """Make the counters agree with the rows, which may have rotted or been moved aside."""
        rows: Counters = Counter()
        for camera, rank, size in self._db.execute(f"SELECT camera, rank, {SIZE} FROM frames"):
            if not (isinstance(camera, str) and isinstance(rank, int) and isinstance(size, int)):
                raise MalformedError("a column is of another type")
            rows[camera, "bytes"] += size
            rows[camera, "held"] += rank == HELD
            rows[camera, "ready"] += rank > HELD
        highest = self._db.execute("SELECT max(seq) FROM frames").fetchone()[0] or 0
        self.counters["", "seq"] = max(self.counters["", "seq"], highest)
        for camera in {camera for camera, _ in [*self.counters, *rows] if camera}:
            for name in ("bytes", "held", "ready"):
                self.counters[camera, name] = rows[camera, name]
            accounted = sum(n for (owner, name), n in self.counters.items() if owner == camera and _is_fate(name))
            missing = self.counters[camera, "made"] - accounted
            self.counters[camera, "evicted.corrupt-file" if missing > 0 else "made"] += abs(missing)

    def _checked(self, seal: bytes, *values: Any) -> Spooled | None:
        spooled = Spooled(*values)
        jpeg = spooled.jpeg
        if isinstance(jpeg, bytes) and hashlib.sha256(jpeg).hexdigest() == spooled.sha256 and spooled.seal() == seal:
            return spooled
        if not isinstance(spooled.camera, str):
            raise MalformedError("a column is of another type")
        self._set_aside(spooled.seq, spooled.camera)
        return None

    def _set_aside(self, seq: int, camera: str) -> None:
        self._set_rank(seq, QUARANTINED)
        self.counters[camera, "ready"] -= 1
        self.counters[camera, "evicted.corrupt"] += 1

    def _set_rank(self, seq: int, rank: int) -> None:
        if self._db.execute("UPDATE frames SET rank = ? WHERE seq = ? AND rank >= 0", (rank, seq)).rowcount != 1:
            raise MalformedError(f"frame {seq} is indexed, but not there")

    def _remove(self, row: Sequence[Any], counter: str) -> None:
        seq, camera, rank, size = row[:4]
        if self._db.execute("DELETE FROM frames WHERE seq = ?", (seq,)).rowcount != 1:
            raise MalformedError(f"frame {seq} is indexed, but not there")
        self._count(camera, rank, -1, -size)
        if rank != QUARANTINED:  # a quarantined frame was counted when it was found
            self.counters[camera, counter] += 1

    def _leave(self, camera: str, at: float, size: int) -> None:
        mine, day = self.counters, int(at // DAY_S)
        if mine[camera, "day"] != day:
            mine[camera, "day"], mine[camera, "day-frames"], mine[camera, "day-bytes"] = day, 0, 0
        mine[camera, "day-frames"] += 1
        mine[camera, "day-bytes"] += size

    def _count(self, camera: str, rank: int, frames: int, size: int) -> None:
        self.counters[camera, "bytes"] += size
        if rank != QUARANTINED:
            self.counters[camera, "held" if rank == HELD else "ready"] += frames


def _is_fate(name: str) -> bool:
    return name in ("acked", "ready", "held") or name.startswith("evicted.")


class MalformedError(sqlite3.DatabaseError):
    """The file contradicts itself in a way that SQLite does not see."""


def is_malformed(error: Exception) -> bool:
    """Return whether an error means that the file's content is broken, rather than the disk or the call."""
    # Our statements are fixed, so SQLITE_ERROR can only mean that the schema has changed. UnicodeDecodeError means that
    # an error message of SQLite quotes rotten text.
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, (MalformedError, UnicodeDecodeError)) or primary in (
        sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG,
    )  # fmt: skip


def load_counters(db: sqlite3.Connection) -> Counters:
    """Return the counters stored in the file."""
    rows = db.execute("SELECT camera, name, value FROM counters").fetchall()
    if any(not isinstance(value, int) for *_, value in rows):
        raise MalformedError("a counter is not a number")
    return Counter({(camera, name): value for camera, name, value in rows})
