"""The fleet as it is now, for every viewer: one row per camera, and at which revision each of them changed.

Rows are built once for all viewers. A viewer says which revision it has and is given what is newer, so that nothing
queues up for one that reads slowly or not at all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from heapq import nsmallest
from math import inf
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from culling.cloud.bill.account import statements
from culling.cloud.control.classes import missing
from culling.cloud.control.said import Said
from culling.cloud.page.access.person import Edges
from culling.cloud.page.alerts import Watchman
from culling.cloud.page.recent import Recent
from culling.cloud.page.standing import standing, troubles
from culling.cloud.page.views import NOW_S, camera_row, next_round, pace, paced, profiled, running_rounds
from culling.cloud.settings import CloudSettings
from culling.cloud.store import history
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.frames import Counts, frame_counts
from culling.cloud.store.history import COUNTS, rise
from culling.cloud.store.index import Index, models
from culling.cloud.store.registry import Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.roster import SILENT_S, CameraRow, Roster, Told
from culling.cloud.store.rounds import Rounds
from culling.common.clock import DAY_S, Clock
from culling.common.metrics import REASONS
from culling.common.wire.messages import CameraState

SLOW_S = 2.0
"""What the index knows of every camera is too much to read in every beat of the page."""

TURN_S = 0.1
"""For so long it is read, and rows are made of it, in one turn: of thousands of cameras it takes several."""

CAMERAS_AT_ONCE = 1000
"""Cameras that are read before the time is looked at again."""

ROWS_AT_ONCE = 200
"""Rows that are made before the time is looked at again."""

BILL_S = 300.0
"""A bill adds up every minute of a day, and hardly changes within a few."""

BILLS_AT_ONCE = 20
"""Bills that are read in one turn: each takes some milliseconds, and the page waits for all."""

DAYS_S = 0.1
"""For so long the days of cameras are read in one turn, and every minute what is new of them."""

DAYS_AT_ONCE = 20
"""Cameras whose days are read before the time is looked at again."""

BILLED = ("gflops", "ratio", "ratio_incremental", "told")

SLOT_MINUTES = 30
"""48 bars a day fit the width of a row."""

DAY_MINUTES = 24 * 60

Row = dict[str, Any]


class News(NamedTuple):
    """What a viewer is told: `data`, JSON on one line, brings it to `revision`."""

    revision: int
    data: bytes


class Board:
    """`latest` gives what the edges said last. `refresh` is called from one thread, everything else from any.

    A service that has just started `waits` for its edges to greet it before it calls any lost.
    """

    def __init__(
        self,
        index: Index,
        latest: Callable[[], Mapping[str, Told]],
        clock: Clock,
        settings: CloudSettings,
        waits: bool = True,
    ) -> None:
        self.revision = 1
        self._started = clock.now() if waits else -inf
        self._heard_before = -inf  # when anything was heard last before it started
        self._edges: dict[str, float] = {}  # when anything was heard of each edge
        self.watchman = Watchman(self._started)
        self._index = index
        self._latest = latest
        self._clock = clock
        self._settings = settings
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._changed: dict[str, int] = {}
        self._sparks: dict[str, dict[int, tuple[Row, int]]] = {}  # by camera and start: a slot, and when it changed
        self._slots_changed: dict[str, int] = {}  # when any slot of a camera did
        self._day = 0
        self._days: dict[str, int] = {}  # the minute in which each camera's day was read last
        self._sparks_changed = self._shrunk = 0
        self._told: dict[str, Told] = {}
        self._samples: dict[str, deque[tuple[float, dict[str, int]]]] = {}
        self._slow = _Slow(index, settings, clock)
        self._next_slow = clock.monotonic()
        self._reading: Iterator[Iterable[str]] = iter(())
        self._whole = False  # whether all was read once: until then a row could say what is not so
        self._encoded: dict[tuple[int, Edges], News] = {}
        self._site_of = settings.grouping.of if settings.sites else None

    def refresh(self) -> bool:
        """Bring the rows up to date, a turn's worth of them where there are many; return whether any changed.

        The first time all of them are made, however long that takes.
        """
        told = dict(self._latest())
        rows = self._read_in_turn(told)
        fresh = {name: one for name, one in told.items() if one is not self._told.get(name)}
        for name, (state, heard) in fresh.items():
            self._sample(name, state, heard)
        self._told = told
        rows |= {name: self._row(name) for name in fresh if name in self._slow.cameras}
        sparks = self._read_sparks(int(self._clock.now() // 60))
        return self._replace(rows, sparks, self._rows.keys() - self._slow.cameras.keys())

    def _read_in_turn(self, told: Mapping[str, Told]) -> dict[str, Row]:
        """Go on with what is read every `SLOW_S`; return the rows that were made anew."""
        rows: dict[str, Row] = {}
        until = self._clock.monotonic() + (TURN_S if self._whole else inf)
        for names in self._reading:
            rows |= {name: self._row(name) for name in names}
            if self._clock.monotonic() > until:
                return rows
        if self._clock.monotonic() >= self._next_slow:
            self._next_slow = self._clock.monotonic() + SLOW_S
            self._reading = self._read(told)
            rows |= self._read_in_turn(told)
        return {name: row for name, row in rows.items() if name in self._slow.cameras}

    def _read(self, told: Mapping[str, Told]) -> Iterator[Iterable[str]]:
        """Read it step by step, and give the cameras whose rows are to be made anew, some at a time."""
        for _ in self._slow.read(told):
            yield ()
        self._read_heard(self._latest())
        names = list(self._slow.cameras)
        for first in range(0, len(names), ROWS_AT_ONCE):
            yield names[first : first + ROWS_AT_ONCE]
        self._whole = True

    def _read_heard(self, told: Mapping[str, Told]) -> None:
        for name, camera in self._slow.cameras.items():
            heard = told[name][1] if name in told else camera.heard
            if heard is not None:
                self._edges[camera.edge] = max(heard, self._edges.get(camera.edge, heard))
                if heard < self._started:
                    self._heard_before = max(heard, self._heard_before)

    def _silence(self, camera: CameraRow, state: str) -> Row:
        """Return whether a camera's edge may still greet (`awaited`), since when the camera is `silent`, and how its
        edge stands: "here", "away", or "new" where nothing was ever heard of it.

        One that fell silent together with the service is silent since that is back: until then nobody listened.
        """
        heard, now, spoke = camera.heard, self._clock.now(), self._edges.get(camera.edge)
        before = heard is not None and heard < self._started
        with_us = before and heard is not None and heard >= self._heard_before - SILENT_S
        return {
            "awaited": state == "down" and before and now - self._started <= SILENT_S,
            "silent": self._started if with_us else heard,
            "edge_is": "new" if spoke is None else "here" if now - spoke <= SILENT_S else "away",
        }

    def row(self, camera: str) -> Row | None:
        """Return one camera's row."""
        return self._rows.get(camera)

    def since(self, revision: int, edges: Edges = None) -> News:
        """Return what is newer than `revision` of the cameras of some edges; all of it for 0.

        Equal questions are encoded once. `sparks` holds the slots of a camera's day that are newer; those that began
        before `day` are over.
        """
        with self._lock:
            if revision < self._shrunk:  # cameras are gone: a viewer that still shows them is sent everything
                revision = 0
            if (revision, edges) not in self._encoded:
                news = News(self.revision, msgspec.json.encode(self._newer(revision, edges)))
                self._encoded[revision, edges] = news
            return self._encoded[revision, edges]

    def _newer(self, revision: int, edges: Edges) -> dict[str, Any]:
        seen = {name: row for name, row in self._rows.items() if edges is None or row["edge"] in edges}
        rows = [row for name, row in seen.items() if self._changed[name] > revision]
        newer: Row = {"revision": self.revision, "now": self._clock.now(), "all": revision == 0, "cameras": rows}
        if self._sparks_changed > revision:
            sparks = {
                name: slots for name, slots in self._newer_slots(revision).items() if edges is None or name in seen
            }
            newer |= {"day": self._day, "sparks": sparks}
        return newer

    def _newer_slots(self, revision: int) -> dict[str, list[Row]]:
        newer = (name for name, changed in self._slots_changed.items() if changed > revision)
        return {
            name: [slot for _, (slot, changed) in sorted(self._sparks[name].items()) if changed > revision]
            for name in newer
        }

    def _replace(self, rows: dict[str, Row], sparks: dict[str, list[Row]] | None, gone: Iterable[str]) -> bool:
        changed = [name for name, row in rows.items() if row != self._rows.get(name)]
        if not changed and sparks is None and not gone:
            return False
        with self._lock:
            self.revision += 1
            for name in gone:
                del self._rows[name], self._changed[name]
                self._sparks.pop(name, None)
                self._slots_changed.pop(name, None)
                self.watchman.forget(name)
                self._shrunk = self.revision
            for name in changed:
                if name in self._rows and self._rows[name]["edge"] != rows[name]["edge"]:
                    self._shrunk = self.revision  # it moved: who saw it may not see it any more
                self._rows[name], self._changed[name] = rows[name], self.revision
            if sparks is not None:
                self._take_slots(sparks)
            self._encoded = {}
        return True

    def _sample(self, name: str, state: CameraState, heard: float) -> None:
        samples, now = self._samples.setdefault(name, deque()), history.counts(state)
        if samples and now["seen"] < samples[-1][1]["seen"]:
            samples.clear()  # the agent restarted
        samples.append((heard, now))
        while len(samples) > 2 and samples[1][0] <= heard - NOW_S:
            samples.popleft()

    def _read_sparks(self, minute: int) -> dict[str, list[Row]] | None:
        """Return the slots that may have changed since they were read last, of some cameras in turn: each minute the
        newest of every camera, and all of its day where none was read. None where no slot was read.

        A minute is recorded when it is over, by another thread, so that it may still be missing when it is read.
        """
        self._days = {name: read for name, read in self._days.items() if name in self._slow.cameras}
        first = (minute - DAY_MINUTES) // SLOT_MINUTES * SLOT_MINUTES + SLOT_MINUTES
        stale = (name for name in self._slow.cameras if self._days.get(name) != minute)
        due = sorted(stale, key=lambda name: self._days.get(name, first))  # a camera without a day comes first
        if not due:
            return None
        found: dict[str, list[Row]] = {}
        until = self._clock.monotonic() + DAYS_S
        for at in range(0, len(due), DAYS_AT_ONCE):
            names = due[at : at + DAYS_AT_ONCE]
            again = (min(self._days.get(name, first) for name in names) - 2) // SLOT_MINUTES * SLOT_MINUTES
            fresh = history.read(self._index, max(first, again), SLOT_MINUTES, names)
            found |= {name: fresh.get(name, []) for name in names}
            self._days |= dict.fromkeys(names, minute)
            if self._clock.monotonic() > until:
                break
        self._day = 60 * first
        wanted = ("t", "seen", *REASONS)
        return {name: [{key: slot[key] for key in wanted} for slot in slots] for name, slots in found.items()}

    def _take_slots(self, found: Mapping[str, list[Row]]) -> None:
        for name, slots in found.items():
            mine = {start: one for start, one in self._sparks.get(name, {}).items() if start >= self._day}
            for slot in slots:
                if slot["t"] not in mine or mine[slot["t"]][0] != slot:
                    mine[slot["t"]] = slot, self.revision
                    self._slots_changed[name] = self.revision
            self._sparks[name] = mine
        self._sparks_changed = self.revision

    def _row(self, name: str) -> Row:
        slow, camera = self._slow, self._slow.cameras[name]
        if name in self._told:  # newer than what the index holds
            state, heard = self._told[name]
            camera = replace(camera, state=state, heard=heard)
        desired, counts = slow.desired.get(name, DesiredState()), slow.counts.get(name, Counts())
        risen, span = self._risen(name)
        row = camera_row(camera, counts, slow.live.get(name), risen, self._clock.now())
        new = name not in slow.taught
        row |= {
            "bill": slow.bills.get(name),
            "told": camera.state.state if camera.state else None,
            "heard": camera.heard,
            "lag_s": slow.recent.lags.get(name),
            "gain": slow.recent.gains.get(name),
            "before": slow.before.get(name),
            "picture": slow.recent.pictures.get(name),
            "swap": slow.recent.swaps.get(name),
            "failed_round": slow.recent.failed.get(name),
            "stored_bytes": counts.bytes,
            "held": desired.held,
            "pinned": desired.pinned,
            "paused": desired.paused,
            "frames_per_window": desired.frames_per_window,
            "pace": paced(camera, desired, self._settings),
            "profile": profiled(camera, desired, self._settings),
            "next_round": next_round(
                camera,
                counts,
                desired,
                new,
                self._settings,
                self._clock.now(),
                name in slow.asked,
                slow.problem,
                slow.lacks.get(name, 0),
            ),
            "round": slow.running.get(name),
            "frame_asked": desired.frame is not None,
            "site": self._site_of(camera.edge) if self._site_of else None,
            "keeping_up": pace(row["state"], risen, span),
            "fps": risen["seen"] / span if row["state"] == "live" and span > 0 else None,
        }
        if row["rate"] is not None:
            row["rate_by"] = {reason: risen[reason] for reason in REASONS if risen[reason]}
        if camera.state:
            row |= self._numbers(name, camera.state)
        now = self._clock.now()
        row |= self._silence(camera, row["state"])
        found = [] if row["state"] == "revoked" else self.watchman.note(name, troubles(row, now), now)
        return row | {"standing": standing(row, found)}

    def _risen(self, name: str) -> tuple[Mapping[str, int], float]:
        """Return what a camera's counters rose by over the last `NOW_S`, and in how many seconds they did."""
        samples = self._samples.get(name)
        if not samples:
            return dict.fromkeys(COUNTS, 0), 0.0
        return rise(samples[0][1], samples[-1][1]), samples[-1][0] - samples[0][0]

    def _numbers(self, name: str, state: CameraState) -> Row:
        scale, made = self._slow.models.get((name, state.model_id), (None, None))
        return {
            "scale": scale,
            "made": made,
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
    """What changes seldom, read from the index every `SLOW_S`; of models and swaps only what is not known yet."""

    def __init__(self, index: Index, settings: CloudSettings, clock: Clock) -> None:
        self._index = index
        self._settings = settings
        self._clock = clock
        self._billed: dict[str, float] = {}  # when each camera's bill was read
        self.recent = Recent(index, clock)
        self.cameras: dict[str, CameraRow] = {}
        self.desired: dict[str, DesiredState] = {}
        self.counts: dict[str, Counts] = {}
        self.live: dict[str, str] = {}
        self.before: dict[str, str] = {}  # the model that a rollback goes to
        self.models: dict[
            tuple[str, str], tuple[float | None, float | None]
        ] = {}  # their scale, and when they were made
        self.taught: frozenset[str] = frozenset()
        self.running: dict[str, Row] = {}
        self.bills: dict[str, Row] = {}
        self.asked: Set[str] = frozenset()
        self.lacks: dict[str, int] = {}
        self.problem = ""

    def read(self, told: Mapping[str, Told]) -> Iterator[None]:
        """Bring it up to date in steps; `told` is what the edges said last."""
        roster, found = Roster(self._index), list[CameraRow]()
        while more := roster.rows(found[-1].name if found else "", CAMERAS_AT_ONCE):
            found += more
            yield
        self.cameras = {row.name: row for row in found}
        self.desired = DesiredStates(self._index).all()
        self.counts = frame_counts(self._index)
        yield
        self.taught = Rounds(self._index).taught()
        yield
        said = Said(self._index, self._settings)
        self.running = running_rounds(self._index, said)
        self.asked = Requests(self._index).rounds().keys()
        self.lacks = missing(self._settings, self._index, self.asked)
        self.problem = said.problem
        yield
        self._read_bills()
        yield
        states = {name: row.state for name, row in self.cameras.items() if row.state is not None}
        states |= {name: state for name, (state, _) in told.items()}
        with self._index.read() as connection:
            self._read_models(connection, {(name, state.model_id) for name, state in states.items()})
        yield
        self.recent.read(self.cameras, self.counts, self._clock.now())
        yield

    def _read_bills(self) -> None:
        """Read what the last day of some cameras cost, without the times, which change with every look."""
        now, at = self._clock.now(), self._clock.monotonic()
        self._billed = {name: when for name, when in self._billed.items() if name in self.cameras}
        old = [name for name in self.cameras if at >= self._billed.get(name, -inf) + BILL_S]
        if some := nsmallest(BILLS_AT_ONCE, old, key=lambda name: self._billed.get(name, -inf)):
            found = statements(self._index, self._settings, now - DAY_S, now, some)
            rows = {name: one.row() for name, one in found.items()}
            read = {name: {key: row[key] for key in BILLED} for name, row in rows.items()}
            self.bills = {name: bill for name, bill in self.bills.items() if name in self.cameras} | read
            self._billed |= dict.fromkeys(some, at)

    def _read_models(self, connection: sa.Connection, running: Set[tuple[str, str]]) -> None:
        """Read which models are live, and of those that run their scale and age, which never change."""
        known = sa.select(models.c.camera, models.c.model_id, models.c.scale, models.c.created)
        live = connection.execute(known.where(models.c.state == "live")).all()
        if (now := {row.camera: row.model_id for row in live}) != self.live:
            self.live, self.before = now, Registry(self._index).fallbacks()
        found = {key: told for key, told in self.models.items() if key in running}
        found |= {(row.camera, row.model_id): (row.scale, row.created) for row in live}
        if missing := running - found.keys():
            named = connection.execute(known.where(models.c.model_id.in_({model_id for _, model_id in missing})))
            found |= dict.fromkeys(missing, (None, None))  # one that is not known is not asked for again
            found |= {(row.camera, row.model_id): (row.scale, row.created) for row in named}
        self.models = found
