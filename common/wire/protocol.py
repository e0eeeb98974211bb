"""The rules of the link, free of I/O: numbers, keys and a clock reading go in, decisions come out.

`SendWindow` decides which spooled frames are sent and when again, `PerMinute` how many pass, `Transfer` fetches a model
piece by piece, `Beats` tells a silent peer from a live one. Every `now` is monotonic seconds. Sockets and disks are the
caller's.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from culling.common.errors import ProtocolError
from culling.common.wire.messages import MAX_CHUNK, ModelChunk, ModelRequest

FrameKey: TypeAlias = tuple[str, int]
"""`(boot, seq)`: the name of a frame of one edge; it is never used twice."""

PIECE = 256 * 1024
"""One second on a line of 2 Mbit/s: what a broken link costs again is small, and so are the round trips of a model."""

MISSED_BEATS = 3
"""One beat may be lost and another late; after a third the peer counts as gone."""


def frame_id(edge_key: str, boot: str, seq: int) -> str:
    """Return the name of a frame among those of all edges, in the store and as the id of its trace: 32 hex digits."""
    return hashlib.sha256(f"{edge_key}\0{boot}\0{seq}".encode()).hexdigest()[:32]


@dataclass
class _Flight:
    first_sent: float
    due: float
    attempts: int


class SendWindow:
    """Which frames are on their way, and when one is sent again.

    Delivery is at least once: a frame stays in flight until its Ack, and only a frame in flight can be acknowledged,
    so that a forged or stale Ack deletes nothing. After a silent time-out the window closes to one frame and opens
    again by one with every Ack (as TCP does, RFC 5681): a thin link is never filled with copies of what it already
    carries. The time-out follows the round trips seen (RFC 6298) and doubles with every attempt at the same frame.

        for key in window.next(ready, now):
            if socket.send(…):
                window.sent(key, now)
    """

    def __init__(self, size: int = 1, timeout_s: float = 15.0, longest_s: float = 300.0) -> None:
        self._size = size
        self._limit = size
        self._timeout_s = timeout_s
        self._longest_s = longest_s
        self._round_trip_s = 0.0
        self._flights: dict[FrameKey, _Flight] = {}

    def __len__(self) -> int:
        """Return how many frames are in flight."""
        return len(self._flights)

    def next(self, ready: Iterable[FrameKey], now: float) -> list[FrameKey]:
        """Return the frames to send now: those due again first, then as many of `ready` as there is room for."""
        due = [key for key, flight in self._flights.items() if flight.due <= now]
        if any(self._flights[key].attempts for key in due):
            self._limit = 1
        again = max(0, self._limit - (len(self._flights) - len(due)))
        fresh = [key for key in ready if key not in self._flights]
        return due[:again] + fresh[: self.room]

    @property
    def room(self) -> int:
        """How many frames may be sent beyond those in flight."""
        return max(0, self._limit - len(self._flights))

    def sent(self, key: FrameKey, now: float) -> None:
        """Note that `key` was handed to the socket."""
        flight = self._flights.setdefault(key, _Flight(now, now, 0))
        flight.attempts += 1
        flight.due = now + self._patience(flight.attempts)

    def ack(self, key: FrameKey, size: int, now: float) -> bool:
        """Take an Ack that allows `size` frames in flight; return whether to delete the frame from the spool."""
        self._size = size
        flight = self._flights.pop(key, None)
        self._limit = min(self._limit + (flight is not None), size)
        if flight is None:
            return False
        took = now - flight.first_sent
        self._round_trip_s = 0.875 * self._round_trip_s + 0.125 * took if self._round_trip_s else took
        return True

    def nack(self, key: FrameKey, retry: bool, now: float) -> bool:
        """Take a Nack; return whether the frame is to be given up, counted and deleted.

        With `retry` it keeps its place in the window until it is due again: a busy cloud gets fewer frames, not others.
        """
        flight = self._flights.get(key)
        if flight is None:
            return False
        if retry:
            flight.due = now + self._patience(flight.attempts)
            return False
        del self._flights[key]
        return True

    def reopen(self, size: int, now: float) -> None:
        """Start over on a new connection, after its Welcome: all that was in flight went down with the old one."""
        self._size = self._limit = size
        for flight in self._flights.values():
            flight.due, flight.first_sent, flight.attempts = now, now, 0

    def _patience(self, attempts: int) -> float:
        timeout = max(self._timeout_s, 2 * self._round_trip_s)
        return float(min(timeout * 2 ** min(attempts - 1, 16), self._longest_s))


class PerMinute:
    """At most `limit` in any minute; 0 lets nothing through. Both sides bound escalations by it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Return whether one more may be let through now, and count it if so."""
        while self._taken and self._taken[0] <= now - 60.0:
            self._taken.popleft()
        if len(self._taken) >= self._limit:
            return False
        self._taken.append(now)
        return True


class Transfer:
    """The download of one model: one request at a time, each chunk taken exactly where the last one ended.

    Starts at `offset`, the number of bytes already on disk. They are not verified yet: the hash covers the whole.
    From `bases`, the hashes of models that are here, the cloud may send what changed instead: its first chunk says so,
    and from then on `base` is one of them, and `size` that of the delta. With a `base` it starts as such.

        request = transfer.request(now)          # None while an answer is awaited, or when done
        data = transfer.accept(chunk, payload)   # bytes to append, b"" when the chunk is a repeat
    """

    def __init__(
        self,
        camera: str,
        model_id: str,
        size: int,
        offset: int = 0,
        timeout_s: float = 60.0,
        bases: tuple[str, ...] = (),
        base: str | None = None,
    ) -> None:
        if not 0 <= offset <= size:
            raise ProtocolError("beyond-total", f"{offset} bytes of model {model_id} are on disk, it has only {size}")
        self.camera = camera
        self.model_id = model_id
        self.size = size
        self.offset = offset
        self.base = base
        self._bases = bases if base is None else (base,)
        self._timeout_s = timeout_s
        self._due: float | None = None

    @property
    def done(self) -> bool:
        """Whether every byte has arrived."""
        return self.offset == self.size

    def request(self, now: float) -> ModelRequest | None:
        """Return what to ask for now, or None while an answer is still awaited or nothing is missing."""
        if self.done or (self._due is not None and now < self._due):
            return None
        self._due = now + self._timeout_s
        length = min(PIECE, self.size - self.offset)
        return ModelRequest(self.camera, self.model_id, self.offset, length, self._bases)

    def accept(self, chunk: ModelChunk, data: bytes) -> bytes:
        """Return the bytes to append to the file: `data`, or nothing for a chunk that is not the one awaited.

        Raises ProtocolError: `wrong-total` when the cloud's total is not the manifest's size, or a delta's is not below
        that, `beyond-total` when the chunk is longer than asked for, `delta-gone` when a delta goes on as the whole.
        """
        if (chunk.camera, chunk.model_id) != (self.camera, self.model_id) or chunk.offset != self.offset:
            return b""
        if chunk.base != self.base and not self._turn(chunk):
            return b""
        if chunk.total != self.size:
            raise ProtocolError("wrong-total", f"model {self.model_id} has {self.size} bytes, not {chunk.total}")
        if len(data) > min(PIECE, self.size - self.offset):
            raise ProtocolError("beyond-total", f"a chunk of model {self.model_id} is longer than was asked for")
        self._bases = () if self.base is None else (self.base,)
        self.offset += len(data)
        self._due = None
        return data

    def reopen(self) -> None:
        """Ask again at once: the answer went down with the old connection."""
        self._due = None

    def _turn(self, chunk: ModelChunk) -> bool:
        """Turn to the delta that a chunk is of; return whether it is one that was asked for."""
        if self.base is not None and chunk.base is None:
            raise ProtocolError("delta-gone", f"the cloud has no delta of model {self.model_id} any more")
        if self.base is not None or chunk.base not in self._bases:
            return False
        self.base = chunk.base
        if chunk.total >= self.size:
            raise ProtocolError("wrong-total", f"a delta of {chunk.total} bytes, model {self.model_id} has {self.size}")
        self.size = chunk.total
        return True


class Beats:
    """Whether a peer lives (something was heard in the last three intervals), and when our own beat is due."""

    def __init__(self, interval_s: float, now: float) -> None:
        self.interval_s = interval_s
        self._heard = now
        self._next = now

    def heard(self, now: float) -> None:
        """Note that anything at all arrived from the peer."""
        self._heard = now

    def alive(self, now: float) -> bool:
        """Return whether the peer was heard within the last MISSED_BEATS intervals."""
        return now - self._heard <= MISSED_BEATS * self.interval_s

    def due(self, now: float) -> bool:
        """Return whether to send a beat now; answers yes once per interval, and never catches up on missed ones."""
        if now < self._next:
            return False
        self._next = now + self.interval_s
        return True


assert PIECE <= MAX_CHUNK
