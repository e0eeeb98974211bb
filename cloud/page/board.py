"""The fleet as it is now, for every viewer: one row per camera, and at which revision each of them changed.

Rows are built once for all viewers. A viewer says which revision it has and is given what is newer, so that nothing
queues up for one that reads slowly or not at all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.page.views import NOW_S, camera_row, next_round, pace, running_rounds
from culling.cloud.settings import CloudSettings
from culling.cloud.store import history
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.frames import Counts, frame_counts
from culling.cloud.store.history import COUNTS, rise
from culling.cloud.store.index import Index, models, rounds, swaps
from culling.cloud.store.roster import CameraRow, Roster
from culling.cloud.store.rounds import Rounds
from culling.common.clock import Clock
from culling.common.metrics import REASONS
from culling.common.wire.messages import CameraState

SLOW_S = 2.0
"""Counting frames reads the whole index: too dear for every beat of the page."""

SLOT_MINUTES = 30
"""48 bars a day fit the width of a row."""

DAY_MINUTES = 24 * 60

Row = dict[str, Any]
Told = tuple[CameraState, float]
"""The last state of a camera, and when it was heard: seconds since the epoch."""


class Board:
    """`latest` gives what the edges said last. `refresh` is called from one thread, everything else from any."""

    def __init__(
        self, index: Index, latest: Callable[[], Mapping[str, Told]], clock: Clock, settings: CloudSettings
    ) -> None:
        self.revision = 1
        self._index = index
        self._latest = latest
        self._clock = clock
        self._settings = settings
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._changed: dict[str, int] = {}
        self._sparks: dict[str, list[Row]] = {}
        self._sparks_changed = self._shrunk = 0
        self._minute = -1
        self._told: dict[str, Told] = {}
        self._samples: dict[str, deque[tuple[float, dict[str, int]]]] = {}
        self._slow = _Slow()
        self._next_slow = clock.monotonic()
        self._encoded: dict[int, bytes] = {}

    def refresh(self) -> bool:
        """Bring the rows up to date; return whether any changed."""
        told, slow = dict(self._latest()), self._clock.monotonic() >= self._next_slow
        if slow:
            self._next_slow = self._clock.monotonic() + SLOW_S
            self._slow = _Slow.read(self._index, self._settings.data_dir)
        fresh = {name: one for name, one in told.items() if one is not self._told.get(name)}
        for name, (state, heard) in fresh.items():
            self._sample(name, state, heard)
        self._told = told
        rows = {name: self._row(name) for name in (self._slow.cameras if slow else fresh) if name in self._slow.cameras}
        minute = int(self._clock.now() // 60)
        sparks = None if minute == self._minute else self._read_sparks(minute)
        self._minute = minute
        return self._replace(rows, sparks, self._rows.keys() - self._slow.cameras.keys())

    def row(self, camera: str) -> Row | None:
        """Return one camera's row."""
        return self._rows.get(camera)

    def since(self, revision: int) -> bytes:
        """Return as JSON what is newer than `revision`; all of it for 0. Equal questions are encoded once."""
        with self._lock:
            if revision < self._shrunk:  # cameras are gone: a viewer that still shows them is sent everything
                revision = 0
            if revision not in self._encoded:
                self._encoded[revision] = msgspec.json.encode(self._newer(revision))
            return self._encoded[revision]

    def _newer(self, revision: int) -> dict[str, Any]:
        rows = [row for name, row in self._rows.items() if self._changed[name] > revision]
        newer: Row = {"revision": self.revision, "now": self._clock.now(), "all": revision == 0, "cameras": rows}
        if self._sparks_changed > revision:
            newer["sparks"] = self._sparks
        return newer

    def _replace(self, rows: dict[str, Row], sparks: dict[str, list[Row]] | None, gone: Iterable[str]) -> bool:
        changed = [name for name, row in rows.items() if row != self._rows.get(name)]
        if not changed and sparks is None and not gone:
            return False
        with self._lock:
            self.revision += 1
            for name in gone:
                del self._rows[name], self._changed[name]
                self._shrunk = self.revision
            for name in changed:
                self._rows[name], self._changed[name] = rows[name], self.revision
            if sparks is not None:
                self._sparks, self._sparks_changed = sparks, self.revision
            self._encoded = {}
        return True

    def _sample(self, name: str, state: CameraState, heard: float) -> None:
        samples, now = self._samples.setdefault(name, deque()), history.counts(state)
        if samples and now["seen"] < samples[-1][1]["seen"]:
            samples.clear()  # the agent restarted
        samples.append((heard, now))
        while len(samples) > 2 and samples[1][0] <= heard - NOW_S:
            samples.popleft()

    def _read_sparks(self, minute: int) -> dict[str, list[Row]]:
        first = (minute - DAY_MINUTES) // SLOT_MINUTES * SLOT_MINUTES + SLOT_MINUTES
        found = history.read(self._index, first, SLOT_MINUTES)
        wanted = ("t", "seen", *REASONS)
        return {name: [{key: slot[key] for key in wanted} for slot in slots] for name, slots in found.items()}

    def _row(self, name: str) -> Row:
        slow, camera = self._slow, self._slow.cameras[name]
        if name in self._told:  # newer than what the index holds
            state, heard = self._told[name]
            camera = replace(camera, state=state, heard=heard)
        desired, counts = slow.desired.get(name, DesiredState()), slow.counts.get(name, Counts())
        risen, span = self._risen(name)
        row = camera_row(camera, counts, slow.live.get(name), risen, self._clock.now())
        new = name not in slow.finished
        row |= {
            "told": camera.state.state if camera.state else None,
            "heard": camera.heard,
            "lag_s": slow.lags.get(name),
            "stored_bytes": counts.bytes,
            "held": desired.held,
            "pinned": desired.pinned,
            "paused": desired.paused,
            "frames_per_window": desired.frames_per_window,
            "next_round": next_round(camera, counts, desired, new, self._settings, self._clock.now()),
            "round": slow.running.get(name),
            "frame_asked": desired.frame is not None,
            "keeping_up": pace(row["state"], risen, span),
            "fps": risen["seen"] / span if row["state"] == "live" and span > 0 else None,
        }
        if row["rate"] is not None:
            row["rate_by"] = {reason: risen[reason] for reason in REASONS if risen[reason]}
        return row | self._numbers(name, camera.state) if camera.state else row

    def _risen(self, name: str) -> tuple[Mapping[str, int], float]:
        """Return what a camera's counters rose by over the last `NOW_S`, and in how many seconds they did."""
        samples = self._samples.get(name)
        if not samples:
            return dict.fromkeys(COUNTS, 0), 0.0
        return rise(samples[0][1], samples[-1][1]), samples[-1][0] - samples[0][0]

    def _numbers(self, name: str, state: CameraState) -> Row:
        return {
            "scale": self._slow.scales.get((name, state.model_id)),
            "inferred": state.inferred,
            "forwarded": dict(state.forwarded),
            "dropped": sum(state.dropped.values()),
            "evicted": state.evicted,
            "spool_bytes": state.spool_bytes,
            "spool_frames": state.spool_frames,
            "threshold": state.threshold,
            "ranker": state.ranker,
            "obeys": state.paused == self._slow.desired.get(name, DesiredState()).paused,
        }


class _Slow:
    """What changes seldom, read from the index every `SLOW_S`."""

    def __init__(self) -> None:
        self.cameras: dict[str, CameraRow] = {}
        self.desired: dict[str, DesiredState] = {}
        self.counts: dict[str, Counts] = {}
        self.live: dict[str, str] = {}
        self.scales: dict[tuple[str, str], float] = {}
        self.lags: dict[str, float] = {}
        self.finished: dict[str, float] = {}
        self.running: dict[str, Row] = {}

    @classmethod
    def read(cls, index: Index, data_dir: Path) -> _Slow:
        slow = cls()
        slow.cameras = {row.name: row for row in Roster(index).rows()}
        slow.desired = DesiredStates(index).all()
        slow.counts = frame_counts(index)
        slow.finished = Rounds(index).last_finished()
        slow.running = running_rounds(index, data_dir)
        known = sa.select(models.c.camera, models.c.model_id, models.c.state, models.c.scale)
        with index.read() as connection:
            for camera, model_id, state, scale in connection.execute(known):
                slow.scales[camera, model_id] = scale
                if state == "live":
                    slow.live[camera] = model_id
            slow.lags = _lags(connection)
        return slow


def _lags(connection: sa.Connection) -> dict[str, float]:
    """Return each camera's latest model lag, in seconds."""
    same = (swaps.c.camera == rounds.c.camera) & (swaps.c.model_id == rounds.c.model_id) & (swaps.c.outcome == "live")
    query = sa.select(rounds.c.camera, rounds.c.report, swaps.c.at).join(swaps, same).order_by(rounds.c.id)
    latest = {camera: (report, at) for camera, report, at in connection.execute(query)}
    told = {camera: (_newest_capture(report), at) for camera, (report, at) in latest.items()}
    return {camera: round(max(0.0, at - newest), 1) for camera, (newest, at) in told.items() if newest}


def _newest_capture(report: str) -> float | None:
    try:
        return msgspec.json.decode(report, type=_Report).newest_capture
    except msgspec.DecodeError:  # one rotten row never stops the page of every camera; `Rounds` logs it
        return None


class _Report(msgspec.Struct):
    newest_capture: float | None = None
