"""What one transaction does to the spool's rows and counters; `spool.py` owns the file and the lock around it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import msgspec

from culling.common.clock import DAY_S
from culling.common.selection.sampling import Draw
from culling.common.selection.selector import Held, Released, Waiting, settle

Counters: TypeAlias = Counter[tuple[str, str]]
"""Counts by camera and name. The spool's own have the camera ""; `seq` is the number of the last frame made. `day` is a
camera's last day, counted from the epoch, on which frames left: `day-frames` of them, of `day-bytes`. `among` is how
many frames took part in the draw of audits since the camera's last window ended."""

QUARANTINED, HELD, HELD_AUDIT = -1, 0, 4
READY_RANK = {"hard": 1, "bootstrap": 2, "manual": 3, "audit": 5}
"""The order in which a camera's frames are given up, lowest first."""
ORDINARY = range(HELD, HELD_AUDIT)
"""Ranks of all but audits, which are given up only when nothing else is left: nothing can be judged without them."""
AUDITS = range(HELD_AUDIT, READY_RANK["audit"] + 1)
READY = f"rank > 0 AND rank != {HELD_AUDIT}"
ROW_BYTES = 512
"""Rough size of a row without its blobs, index entries included."""
SIZE = f"length(jpeg) + length(detections) + length(features) + ifnull(length(echo), 0) + {ROW_BYTES}"

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    seq INTEGER PRIMARY KEY, rank INTEGER NOT NULL, boot TEXT NOT NULL, camera TEXT NOT NULL,
    frame INTEGER NOT NULL, pts REAL NOT NULL, captured REAL NOT NULL, reason TEXT NOT NULL, loss REAL NOT NULL,
    worth REAL NOT NULL, model_id TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, sha256 TEXT NOT NULL,
    seal BLOB NOT NULL, detections BLOB NOT NULL, features BLOB NOT NULL, jpeg BLOB NOT NULL,
    probability REAL, lot REAL, ignored BLOB, shadow BLOB, echo BLOB);
DROP INDEX IF EXISTS least_valuable;
DROP INDEX IF EXISTS held;
CREATE INDEX IF NOT EXISTS by_worth ON frames (camera, rank, model_id, worth, seq DESC);
CREATE INDEX IF NOT EXISTS ready ON frames (seq) WHERE rank > 0;
CREATE INDEX IF NOT EXISTS quarantined ON frames (seq) WHERE rank = -1;
CREATE TABLE IF NOT EXISTS counters (
    camera TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (camera, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Spooled:
    """One spooled frame; `seq` counts all frames ever made, `frame` is its place in the stream.

    `worth` is what it was chosen by, `probability` that with which an audit was drawn. `detections` is a
    `WireDetections` and `features` a `WireFeatures` in MessagePack, `sha256` the hex digest of `jpeg`, `ignored` the
    places that did not count, None without any, `shadow` a `Beside` in MessagePack, None without one;
    `echo` is what an audit tells of the frames before it, None where nothing.
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
    probability: float | None = None
    ignored: bytes | None = None
    shadow: bytes | None = None
    echo: bytes | None = None

    def seal(self) -> bytes:
        """Return the digest of all fields; the JPEG enters by its own, and what came later only where it is there."""
        without = {"jpeg", *(name for name in LATER if getattr(self, name) is None)}
        header = [getattr(self, name) for name in FIELDS if name not in without]
        return hashlib.sha256(msgspec.msgpack.encode(header)).digest()

    def is_sound(self, seal: bytes) -> bool:
        """Return whether the JPEG and all fields are those that were sealed."""
        jpeg = self.jpeg
        return isinstance(jpeg, bytes) and hashlib.sha256(jpeg).hexdigest() == self.sha256 and self.seal() == seal


FIELDS = tuple(field.name for field in fields(Spooled))
LATER = ("probability", "ignored", "shadow", "echo")
"""Fields that rows of earlier versions do not have."""


class Leaving(NamedTuple):
    """A frame that may leave from now on; `size` is that of its JPEG, `captured` seconds since the epoch."""

    reason: str
    size: int
    boot: str
    seq: int
    captured: float


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

    def insert(self, spooled: Spooled, rank: int, draw: Draw | None = None) -> None:
        """Add one row, and drop the held audit whose place in the draw it takes."""
        row = {name: getattr(spooled, name) for name in FIELDS} | {"rank": rank, "seal": spooled.seal()}
        row["lot"] = draw.lot if draw else None
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._db.execute(f"INSERT INTO frames ({names}) VALUES ({marks})", row)
        self.counters[spooled.camera, "made"] += 1
        blobs = (spooled.jpeg, spooled.detections, spooled.features, spooled.echo or b"")
        self._count(spooled.camera, rank, 1, sum(map(len, blobs)) + ROW_BYTES)
        if rank not in (HELD, HELD_AUDIT):
            self._leave(spooled.camera, spooled.captured, len(spooled.jpeg))
        if draw is not None:
            self.tally(spooled.camera, draw.among)
            self._oust(spooled.camera, draw)

    def _oust(self, camera: str, draw: Draw) -> None:
        query = f"SELECT seq, camera, rank, {SIZE} FROM frames WHERE camera = ? AND rank = {HELD_AUDIT} AND lot = ?"
        if draw.ousts is not None and (row := self._db.execute(query, (camera, draw.ousts)).fetchone()) is not None:
            self._remove(row, "evicted.window")

    def tally(self, camera: str, among: int) -> None:
        """See `Spool.tally`."""
        self.counters[camera, "among"] = among

    def evict_down_to(self, max_bytes: int) -> None:
        """Remove the least valuable rows until the others fit in `max_bytes`."""
        while sum(value for (_, name), value in self.counters.items() if name == "bytes") > max_bytes:
            if (row := self._least()) is None:
                raise MalformedError("rows and counters disagree")
            self._remove(row, "evicted.pressure")

    def _least(self) -> Sequence[Any] | None:
        """Return the row to give up next; None if there is none.

        The worths that two students, or two rules, give do not compare: the camera whose frames take most room
        gives one up, and of its models the one with the most frames.
        """
        columns = f"SELECT seq, camera, rank, {SIZE} FROM frames"
        if (row := self._db.execute(f"{columns} WHERE rank = {QUARANTINED} LIMIT 1").fetchone()) is not None:
            return tuple(row)
        cameras = sorted((name for name, kind in self.counters if kind == "bytes"), key=self._by_size)
        for ranks, order in ((ORDINARY, "worth, seq DESC"), (AUDITS, "lot DESC, seq DESC")):
            for camera in cameras:
                if (heap := self._heap(camera, ranks)) is not None:
                    query = f"{columns} WHERE camera = ? AND rank = ? AND model_id = ? ORDER BY {order} LIMIT 1"
                    return tuple(self._db.execute(query, (camera, *heap)).fetchone())
        return None

    def _by_size(self, camera: str) -> tuple[int, str]:
        return -self.counters[camera, "bytes"], camera

    def _heap(self, camera: str, ranks: range) -> tuple[int, str] | None:
        """Return the lowest of `ranks` that a camera has, and of its models there the one with the most frames."""
        query = """SELECT rank, model_id FROM frames WHERE camera = ? AND rank >= ? AND rank < ?
            GROUP BY rank, model_id ORDER BY rank, count(*) DESC, model_id LIMIT 1"""
        found = self._db.execute(query, (camera, ranks.start, ranks.stop)).fetchone()
        return None if found is None else (found[0], found[1])

    def release(self, camera: str, released: Released, at: float) -> list[Leaving]:
        """See `Spool.release`."""
        query = f"""SELECT seq, camera, rank, {SIZE}, length(jpeg), CAST(worth AS REAL), reason, CAST(lot AS REAL),
            CAST(boot AS TEXT), CAST(captured AS REAL) FROM frames
            WHERE camera = ? AND rank IN ({HELD}, {HELD_AUDIT}) ORDER BY seq"""
        rows = self._db.execute(query, (camera,)).fetchall()
        settled = settle(released, [Held(*row[5:8]) for row in rows])
        left = []
        for place in settled.hard:
            self._make_ready(rows[place], "hard")
            left.append(_leaving("hard", rows[place]))
        for place in settled.audits:
            self._make_ready(rows[place], "audit")
            if self._mark_drawn(rows[place][0], settled.probability):
                left.append(_leaving("audit", rows[place]))
        for place in set(range(len(rows))).difference(settled.hard, settled.audits):
            self._remove(rows[place], "evicted.window")
        for one in left:
            self._leave(camera, at, one.size)
        self.tally(camera, 0)
        return left

    def _make_ready(self, row: Sequence[Any], reason: str) -> None:
        self._set_rank(row[0], READY_RANK[reason])
        self.counters[row[1], "held"] -= 1
        self.counters[row[1], "ready"] += 1

    def _mark_drawn(self, seq: int, probability: float) -> bool:
        """Write how likely an audit was to be drawn, and seal it anew; return whether the row was sound."""
        query = f"SELECT seal, {', '.join(FIELDS)} FROM frames WHERE seq = ?"
        if (spooled := self._checked(*self._db.execute(query, (seq,)).fetchone())) is None:
            return False
        self._rewrite(spooled, reason="audit", probability=probability)
        return True

    def stand_beside(self, boot: str, seq: int, shadow: bytes) -> bool:
        """See `Spool.stand_beside`."""
        query = f"SELECT seal, {', '.join(FIELDS)} FROM frames WHERE seq = ? AND boot = ?"
        row = self._db.execute(f"{query} AND rank IN ({HELD}, {HELD_AUDIT})", (seq, boot)).fetchone()
        if row is None or not (spooled := Spooled(*row[1:])).is_sound(row[0]):  # who reads it sets it aside
            return False
        self._rewrite(spooled, shadow=shadow)
        return True

    def _rewrite(self, spooled: Spooled, **changes: Any) -> None:
        """Change fields of a sound row, and seal it anew."""
        fields = ", ".join(f"{name} = ?" for name in changes)
        seal = replace(spooled, **changes).seal()
        query = f"UPDATE frames SET {fields}, seal = ? WHERE seq = ?"
        self._db.execute(query, (*changes.values(), seal, spooled.seq))

    def held(self, camera: str) -> Waiting:
        """See `Spool.held`."""
        query = "SELECT CAST(worth AS REAL), CAST(lot AS REAL) FROM frames WHERE camera = ? AND rank = ?"
        hard, audits = (self._db.execute(query, (camera, rank)).fetchall() for rank in (HELD, HELD_AUDIT))
        lots = [lot for _, lot in audits if lot is not None]
        return Waiting([worth for worth, _ in hard], lots, self.counters[camera, "among"])

    def oldest(self) -> float | None:
        """See `Spool.oldest`."""
        row = self._db.execute(f"SELECT captured FROM frames WHERE {READY} ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else float(row[0])

    def read(self, limit: int, without: Collection[int]) -> list[Spooled | None]:
        """Return the oldest ready rows, `without` some; one with a wrong hash is quarantined, and None here."""
        query = f"""SELECT seal, {", ".join(FIELDS)} FROM frames
            WHERE {READY} AND seq NOT IN ({", ".join("?" * len(without))}) ORDER BY seq LIMIT ?"""
        return [self._checked(*row) for row in self._db.execute(query, (*without, limit)).fetchall()]

    def delete(self, boot: str, seq: int, counter: str) -> bool:
        """Remove that row if it is ready, and count it under `counter`; return whether it was."""
        query = f"SELECT seq, camera, rank, {SIZE} FROM frames WHERE seq = ? AND boot = ? AND {READY}"
        row = self._db.execute(query, (seq, boot)).fetchone()
        if row is not None:
            self._remove(row, counter)
        return row is not None

    def quarantine(self, boot: str, seq: int) -> bool:
        """Set the ready row of this name aside, as one whose hash is wrong."""
        query = f"SELECT camera FROM frames WHERE seq = ? AND boot = ? AND {READY}"
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
            rows[camera, "held"] += rank in (HELD, HELD_AUDIT)
            rows[camera, "ready"] += rank in READY_RANK.values()
        highest = self._db.execute("SELECT max(seq) FROM frames").fetchone()[0] or 0
        self.counters["", "seq"] = max(self.counters["", "seq"], highest)
        for camera in {camera for camera, _ in [*self.counters, *rows] if camera}:
            for name in ("bytes", "held", "ready"):
                self.counters[camera, name] = rows[camera, name]
            accounted = sum(n for (owner, name), n in self.counters.items() if owner == camera and _is_fate(name))
            missing = self.counters[camera, "made"] - accounted
            self.counters[camera, "evicted.corrupt-file" if missing > 0 else "made"] += abs(missing)

    def _checked(self, seal: bytes, *values: Any) -> Spooled | None:
        if (spooled := Spooled(*values)).is_sound(seal):
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
            self.counters[camera, "held" if rank in (HELD, HELD_AUDIT) else "ready"] += frames


def _leaving(reason: str, row: Sequence[Any]) -> Leaving:
    return Leaving(reason, row[4], row[8], row[0], row[9])


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


def add_columns(db: sqlite3.Connection) -> None:
    """Give the table of an earlier version the columns that came since."""
    there = {name for _, name, *_ in db.execute("PRAGMA table_info(frames)")}
    later = ("ignored", "shadow", "echo")
    for column, kind in (("probability", "REAL"), ("lot", "REAL"), *((name, "BLOB") for name in later)):
        if column not in there:
            db.execute(f"ALTER TABLE frames ADD COLUMN {column} {kind}")
