"""Frames that arrived together and are stored together, so that all of them wait once for index and disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from culling.cloud.link.admission import Lack, Room
from culling.cloud.store.frames import Arrival, Fate, FrameStore
from culling.common.errors import StorageError

MOST_BYTES = 8 << 20
"""About thirty frames of usual size; a larger batch saves little more and delays the acks."""

Outcome: TypeAlias = Fate | Literal["seq-reused"] | Lack | StorageError


class Arrivals:
    """Checked frames, in memory until they are stored; no two of one name."""

    def __init__(self, frames: FrameStore, room: Room) -> None:
        self._frames = frames
        self._room = room
        self._waiting: dict[str, Arrival] = {}
        self._bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    @property
    def full(self) -> bool:
        """Whether they hold as much memory as they may."""
        return self._bytes >= MOST_BYTES

    def add(self, arrival: Arrival) -> None:
        """Add a frame to those that wait."""
        self._waiting[arrival.name] = arrival
        self._bytes += len(arrival.jpeg)

    def store(self) -> Iterator[tuple[Arrival, Outcome]]:
        """Make durable those that are new and have room; yield each frame with what became of it.

        "stored" and "duplicate" are durable; "seq-reused" has the name of another picture; a `Lack` of room, or the
        error that kept it from being durable, may be gone when it comes again.
        """
        arrivals, self._waiting, self._bytes = self._waiting, {}, 0
        if not arrivals:
            return
        try:
            known = self._frames.known(arrivals)
        except StorageError as error:
            yield from ((arrival, error) for arrival in arrivals.values())
            return
        fresh = []
        for name, arrival in arrivals.items():
            if name in known:
                yield arrival, "duplicate" if known[name] == arrival.frame.sha256 else "seq-reused"
            elif lack := self._room.let_in(arrival.frame.camera, arrival.size):
                yield arrival, lack
            else:
                fresh.append(arrival)
        if fresh:
            yield from self._add(fresh)

    def _add(self, fresh: list[Arrival]) -> Iterator[tuple[Arrival, Outcome]]:
        try:
            fates = self._frames.add_all(fresh)
        except StorageError as error:
            if len(fresh) == 1:
                yield fresh[0], error
                return
            for arrival in fresh:  # one that cannot be stored must not cost the others
                yield from self._add([arrival])
        else:
            yield from zip(fresh, fates, strict=True)
