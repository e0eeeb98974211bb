"""What happened to each camera last: its newest frame, its newest swap, a round that failed, and what its model gained.

Read again only where something changed, so that thousands of cameras cost no more than what happens to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from culling.cloud.store.frames import Counts
from culling.cloud.store.index import Index, frames, rounds, swaps
from culling.cloud.store.registry import Registry
from culling.cloud.store.rounds import Rounds
from culling.common.clock import DAY_S, Clock

TOLD = ("map_before", "map_after", "gain_low")
"""What a gate found, of a round's report."""

Row = dict[str, Any]


READ_S = 0.1
"""For so long pictures, and rounds, are read at once: thousands of cameras are told over a minute of looks."""


class Recent:
    """Used from one thread. `now` is given in seconds since the epoch."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock
        self._swap = -1  # the last one that was read
        self._unread: set[str] = set()  # cameras whose last round is to be read
        self._stored: dict[str, tuple[int, int, int]] = {}
        self.pictures: dict[str, Row] = {}
        self.swaps: dict[str, Row] = {}
        self.failed: dict[str, Row] = {}
        self.lags: dict[str, float] = {}
        self.gains: dict[str, Row] = {}

    def read(self, cameras: Collection[str], counts: Mapping[str, Counts], now: float) -> None:
        """Bring it up to date for these cameras, of which so much is stored."""
        self._read_pictures(cameras, counts)
        self._read_swaps(cameras, now)
        self.failed = self._read_failed(now)

    def _read_pictures(self, cameras: Collection[str], counts: Mapping[str, Counts]) -> None:
        stored = {name: (one.stored, one.bytes, one.asking) for name, one in counts.items() if name in cameras}
        fresh = [name for name, mine in stored.items() if self._stored.get(name) != mine]
        self._stored = {name: mine for name, mine in self._stored.items() if name in stored}
        until = self._clock.monotonic() + READ_S
        columns = sa.select(frames.c.id, frames.c.captured, frames.c.labels.is_not(None).label("labelled"))
        with self._index.read() as connection:
            for name in fresh:
                mine = (frames.c.camera == name) & (frames.c.state == "stored")
                row = connection.execute(columns.where(mine).order_by(frames.c.received.desc()).limit(1)).first()
                self.pictures[name] = {} if row is None else dict(row._mapping)
                self._stored[name] = stored[name]
                if self._clock.monotonic() > until:
                    break
        self.pictures = {name: told for name, told in self.pictures.items() if name in stored and told}

    def _read_swaps(self, cameras: Collection[str], now: float) -> None:
        """Read what swapped since the last time; at first of the last day, and of all cameras what they gained."""
        newest = sa.select(sa.func.max(swaps.c.id))
        fresh = swaps.c.received >= now - DAY_S if self._swap < 0 else swaps.c.id > self._swap
        with self._index.read() as connection:
            found = sorted(connection.execute(swaps.select().where(fresh)), key=lambda row: row.id)
            self._unread |= set(cameras) if self._swap < 0 else {row.camera for row in found if row.outcome == "live"}
            self._swap = connection.execute(newest).scalar() or 0
        for row in found:
            self.swaps[row.camera] = {key: getattr(row, key) for key in ("model_id", "outcome", "reason", "at")}
        until = self._clock.monotonic() + READ_S
        for name in list(self._unread):
            self._read_round(name)
            self._unread.discard(name)
            if self._clock.monotonic() > until:
                break
        for kept in (self.swaps, self.lags, self.gains):
            for gone in kept.keys() - set(cameras):
                del kept[gone]

    def _read_round(self, camera: str) -> None:
        """Read the model lag and the gain of the last round of which the camera ran the model."""
        same = (swaps.c.camera == rounds.c.camera) & (swaps.c.model_id == rounds.c.model_id)
        joined = sa.select(rounds.c.id, rounds.c.model_id, swaps.c.at).join(swaps, same & (swaps.c.outcome == "live"))
        mine = joined.where(rounds.c.camera == camera).order_by(rounds.c.id.desc(), swaps.c.at).limit(1)
        with self._index.read() as connection:
            row = connection.execute(mine).first()
        if row is None:
            return
        report = Rounds(self._index).get(row.id).report
        if (newest := report.get("newest_capture")) is not None:
            self.lags[camera] = round(max(0.0, row.at - newest), 1)
        if report.get("map_after") is not None:
            gone = Registry(self._index).gone(camera).get(row.model_id)
            told = {"model_id": row.model_id, "at": row.at, "gone": "" if gone is None else gone.told()}
            self.gains[camera] = told | {name: report.get(name) for name in TOLD}

    def _read_failed(self, now: float) -> dict[str, Row]:
        """Return the last round of each camera where that failed within the last day."""
        later = rounds.alias("later")
        newer = sa.exists().where(later.c.camera == rounds.c.camera, later.c.finished > rounds.c.finished)
        failed = (rounds.c.finished >= now - DAY_S) & (rounds.c.state == "failed") & ~newer
        query = sa.select(rounds.c.camera, rounds.c.id, rounds.c.reason, rounds.c.finished.label("at")).where(failed)
        with self._index.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        return {row.pop("camera"): row for row in rows}
