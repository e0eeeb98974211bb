"""Frames that came together and are made durable together: the disk makes all of them wait no longer than one."""

from __future__ import annotations

from collections.abc import Iterator

from culling.cloud.frames import Arrival, FrameStore
from culling.common.errors import StorageError

MOST_BYTES = 8 << 20


class Arrivals:
    """Checked frames, in memory until they are stored; no two of one name."""

    def __init__(self, frames: FrameStore) -> None:
        self._frames = frames
        self._waiting: dict[str, Arrival] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether they hold as much memory as they may."""
        return sum(len(arrival.jpeg) for arrival in self._waiting.values()) >= MOST_BYTES

    def add(self, arrival: Arrival) -> None:
        """Let a frame wait with the others."""
        self._waiting[arrival.name] = arrival

    def store(self) -> Iterator[tuple[Arrival, StorageError | None]]:
        """Make all of them durable; yield each with None, or with the error that kept it from being so."""
        arrivals, self._waiting = list(self._waiting.values()), {}
        if (error := self._try(arrivals)) is None or len(arrivals) == 1:
            yield from ((arrival, error) for arrival in arrivals)
            return
        for arrival in arrivals:  # one that cannot be stored must not cost the others
            yield arrival, self._try([arrival])

    def _try(self, arrivals: list[Arrival]) -> StorageError | None:
        try:
            if arrivals:
                self._frames.add_all(arrivals)
        except StorageError as error:
            return error
        return None
