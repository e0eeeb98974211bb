"""Frames that wait on disk for the cloud: a bounded priority queue that survives `kill -9`, a full disk and rot.

One SQLite file in WAL mode with `synchronous=FULL`: when `add` returns, the frame is on the disk; it is deleted only
by `delete`, on the cloud's Ack, or evicted and counted. Frames are *held* (until their window closes) or *ready*.

When the frames outgrow `max_bytes` the camera that takes most room gives one up, so that none pushes out another's:
held frames before ready ones, the lowest worth first (`scoring.py`), then `bootstrap` and `manual`. The worths that
two students give do not compare: the one with more frames gives one up. Audits go last, after those frames of every
camera.

Every frame is accounted for, per camera and across restarts:

    made = acked + evicted + ready + held     evicted, by reason:  pressure      pushed out by more valuable frames
                                                                   window        held, and not among the best
                                                                   corrupt       wrong or unreadable: quarantined
                                                                   refused       given up: the cloud will never take it
                                                                   oversized     given up: too large for any message
                                                                   corrupt-file  lost with a file that was moved aside

A file that SQLite finds malformed is moved to `<name>.corrupt`, replacing any older one, and a new file is started.
When the disk is full or fails, the call raises `StorageError`, leaves nothing half-done, and a later call retries.

Threads: any thread may call any method. All share one connection under one lock, so that no thread still uses a broken
file when it is moved; calls are short. `counts` takes no lock and never waits for the disk.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import structlog

from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.selection.budget import Spent
from culling.common.selection.sampling import Draw
from culling.common.selection.selector import NO_ONE_WAITS, Released, Waiting
from culling.common.wire.ignored import Places, encode
from culling.common.wire.messages import to_wire
from culling.edge.scoring import Score
from culling.edge.spool.rows import (
    HELD,
    HELD_AUDIT,
    READY_RANK,
    SCHEMA,
    Change,
    Counters,
    Leaving,
    Spooled,
    add_columns,
    is_malformed,
    load_counters,
)

__all__ = ["Shot", "Spool", "SpoolCounts", "Spooled"]

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Shot(Protocol):
    """What the spool needs to know of a frame: `seq` is its place in the stream, `captured` wall-clock seconds."""

    @property
    def camera(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def pts(self) -> float: ...
    @property
    def captured(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


@dataclass(frozen=True)
class SpoolCounts:
    """Where the frames made so far are; `reasons` splits `evicted`, `bytes` is the size of the rows."""

    made: int
    acked: int
    evicted: int
    ready: int
    held: int
    bytes: int
    reasons: Mapping[str, int]
    moved_aside: int


class Spool:
    """See the module. `boot` names this start of the agent; with `seq` it names a frame uniquely.

    A disk that cannot be used yet is no error until `add` needs it, so that an agent with a full disk starts.
    """

    def __init__(self, path: Path, max_bytes: int, boot: str) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self.boot = boot
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._counters: Counters = Counter()
        """Replaced, never changed in place: `counts` reads it without the lock."""
        self._past: Counters | None = None
        """The counters as they were when this start first opened the file."""
        try:
            self._write(lambda change: None)
        except StorageError as error:
            log.warning("spool_open_failed", error=str(error))

    def add(
        self,
        frame: Shot,
        *,
        found: Detections,
        score: Score,
        reason: str,
        model_id: str,
        jpeg: bytes,
        held: bool,
        draw: Draw | None = None,
        ignored: Places = (),
        echo: bytes = b"",
    ) -> int:
        """Store a frame durably and return its number; it may be evicted at once if it is itself the least valuable.

        `draw` is its part in the draw of audits, None if it has none; `ignored` are the places that did not count;
        `echo` goes with it if it leaves as an audit.
        Raises `StorageError` when the disk refuses it, `ValueError` for a score that is not finite.
        """
        if not (math.isfinite(score.loss) and math.isfinite(score.worth)):
            raise ValueError(f"a score must be finite, got {score.loss} and {score.worth}")
        detections, features = msgspec.msgpack.encode(to_wire(found)), msgspec.msgpack.encode(score.features)
        sha256 = hashlib.sha256(jpeg).hexdigest()

        def insert(change: Change) -> int:
            seq = change.next_seq()
            spooled = Spooled(
                self.boot, seq, frame.camera, frame.seq, frame.pts, frame.captured, reason, score.loss, score.worth,
                model_id, frame.width, frame.height, detections, features, jpeg, sha256, ignored=encode(ignored),
                echo=echo or None,
            )  # fmt: skip
            waits = HELD_AUDIT if reason == "audit" else HELD
            change.insert(spooled, waits if held else READY_RANK[reason], draw)
            change.evict_down_to(self._max_bytes)
            return seq

        return self._write(insert)

    def release(self, camera: str, released: Released, at: float) -> list[Leaving]:
        """Make those held frames of `camera` ready that leave at the end of their window, and drop its others.

        Returns each that leaves. They count as leaving at `at`, seconds since the epoch. Raises
        `StorageError`.
        """
        return self._write(lambda change: change.release(camera, released, at))

    def stand_beside(self, seq: int, shadow: bytes) -> bool:
        """Keep what a shadow found in a frame of this start (a `Beside` in MessagePack) while that is still held;
        return whether it is. Raises `StorageError`.
        """
        return self._write(lambda change: change.stand_beside(self.boot, seq, shadow))

    def tally(self, camera: str, among: int) -> None:
        """Keep how many frames took part in a camera's draw so far, for the next start. Raises `StorageError`."""
        self._write(lambda change: change.tally(camera, among))

    def held(self, camera: str) -> Waiting:
        """Return what of the camera waits for a window's end; nothing while the disk cannot be read."""
        try:
            return self._write(lambda change: change.held(camera))
        except StorageError as error:
            log.warning("spool_read_failed", error=str(error))
            return NO_ONE_WAITS

    def spent(self, camera: str) -> Spent:
        """Return how much of the daily budget the camera spent on the last day on which a frame of it left."""
        day, frames, size = (self._counters[camera, name] for name in ("day", "day-frames", "day-bytes"))
        return Spent(day, frames, size)

    def ready(self, limit: int, without: Collection[int] = ()) -> list[Spooled]:
        """Return up to `limit` ready frames, oldest first, except the numbers in `without`.

        Frames whose hash is wrong are quarantined and left out. Raises `StorageError`.
        """
        while True:
            found = self._write(lambda change: change.read(limit, without))
            sound = [spooled for spooled in found if spooled is not None]
            if sound or not found:
                return sound

    def oldest(self) -> float | None:
        """Return when the oldest ready frame was captured, seconds since the epoch. Raises `StorageError`."""
        return self._write(lambda change: change.oldest())

    def delete(self, boot: str, seq: int) -> bool:
        """Delete a frame that the cloud has made durable; False if it is not here. Raises `StorageError`."""
        return self._write(lambda change: change.delete(boot, seq, "acked"))

    def give_up(self, boot: str, seq: int, reason: str) -> bool:
        """Delete a frame that cannot be delivered, and count it as evicted for `reason`; otherwise as `delete`."""
        return self._write(lambda change: change.delete(boot, seq, f"evicted.{reason}"))

    def quarantine(self, boot: str, seq: int) -> bool:
        """Set aside a frame of which no message can be made, counted as corrupt; else as `delete`."""
        return self._write(lambda change: change.quarantine(boot, seq))

    def counts(self, camera: str | None = None) -> SpoolCounts:
        """Return the counts of one camera or of all, as of the last committed change."""
        return _counts(self._counters, camera)

    def evicted(self, camera: str) -> Counter[str]:
        """Return how many frames of `camera` were evicted since this start, by reason."""
        before = _counts(self._past or Counter(), camera)
        return Counter(self.counts(camera).reasons) - Counter(before.reasons)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            self._disconnect()

    def _write(self, operation: Callable[[Change], T]) -> T:
        with self._lock:
            try:
                try:
                    return self._transact(operation)
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    if not is_malformed(error):
                        raise
                    self._move_aside(error)
                    return self._transact(operation)
            except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
                # A connection may remember that the disk was full, read-only or gone; a new one does not.
                self._disconnect()
                raise StorageError(f"{self._path}: the spool cannot be used now: {error}") from None

    def _transact(self, operation: Callable[[Change], T], stored: Counters | None = None) -> T:
        db = self._db or self._connect()
        change = Change(db, self._counters if stored is None else stored, self._counters)
        db.execute("BEGIN IMMEDIATE")
        try:
            result = operation(change)
            change.save()
            db.execute("COMMIT")
        except BaseException:
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()
            raise
        self._counters = change.counters
        return result

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db = db
        # Text that rotted on disk fails its hash later, instead of raising wherever it is read.
        db.text_factory = lambda text: text.decode(errors="replace")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(SCHEMA)
        add_columns(db)
        stored = load_counters(db)
        # A file that is behind the counters known here has replaced one that was lost.
        if stored and stored["", "seq"] >= self._counters["", "seq"]:
            self._counters = stored
        self._transact(Change.reconcile, stored)
        if self._past is None:
            self._past = self._counters
        return db

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _move_aside(self, error: Exception) -> None:
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            source = self._path.with_name(self._path.name + suffix)
            target = self._path.with_name(f"{self._path.name}.corrupt{suffix}")
            target.unlink(missing_ok=True)
            if source.exists():
                os.replace(source, target)
        self._counters = self._counters + Counter({("", "moved-aside"): 1})
        log.error("spool_moved_aside", path=str(self._path), error=str(error))


def _counts(counters: Counters, camera: str | None) -> SpoolCounts:
    mine: Counter[str] = Counter()
    for (owner, name), value in counters.items():
        if camera in (None, owner):
            mine[name] += value
    reasons = {name.removeprefix("evicted."): n for name, n in mine.items() if name.startswith("evicted.")}
    return SpoolCounts(
        made=mine["made"], acked=mine["acked"], evicted=sum(reasons.values()), ready=mine["ready"],
        held=mine["held"], bytes=mine["bytes"], reasons=reasons, moved_aside=counters["", "moved-aside"],
    )  # fmt: skip
