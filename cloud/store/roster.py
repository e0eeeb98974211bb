"""Who may speak, and for which cameras: the edges that were enrolled, and what they last said of their cameras.

An edge is its CURVE key. A camera's name is unique in the whole cloud and belongs to one edge; what a message claims
beyond that is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, cameras, edges, requests, rounds, wishes
from culling.cloud.store.purge.purge import REMOVED
from culling.cloud.store.purge.withheld import readmit, remember, removed_cameras
from culling.cloud.store.rounds import UNFINISHED
from culling.common.clock import Clock
from culling.common.errors import InputError, SettingsError
from culling.common.wire.messages import MAX_CAMERAS, CameraState

SILENT_S = 30.0
"""An edge that has been silent this long is down, even if it last said that its camera is live."""

AHEAD_S = 60.0
"""Clocks of services that share an index differ by less."""

EVERY_S = 1.0
"""What is heard is written once a second, so that nobody has to read it more often."""

FEW = 1000
"""Cameras that are asked for by name; of more it is quicker to read all."""

_said, _ahead = sa.bindparam("said", type_=sa.Float), sa.bindparam("ahead", type_=sa.Float)
_older = cameras.c.heard.is_(None) | (cameras.c.heard <= _said) | (cameras.c.heard > _ahead)
_HEARD = (
    cameras.update()
    .where(cameras.c.name == sa.bindparam("camera"), _older)
    .values(state=sa.bindparam("word"), heard=_said)
)
"""One statement for many cameras: in a large fleet they take most of the time that ingest has."""

Told = tuple[CameraState, float]
"""The last state of a camera, and when it was heard: seconds since the epoch."""

State = Literal["live", "frozen", "down", "ended", "unseen", "revoked"]
_STATES: dict[str, State] = {"live": "live", "frozen": "frozen", "ended": "ended", "stopped": "ended"}


@dataclass(frozen=True)
class Members:
    """One moment of the roster: the cameras of every edge that may speak, by its public key, and those `removed`.

    `names` are those of all edges, by key, revoked ones too: a log names an edge by it.
    """

    cameras: Mapping[str, frozenset[str]] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, edge_key: str) -> str:
        """Return the name of the edge with that key; the key itself where no edge has it."""
        return self.names.get(edge_key, edge_key)

    def owns(self, edge_key: str, camera: str) -> bool:
        """Return whether `camera` belongs to the edge with that key."""
        return camera in self.cameras.get(edge_key, frozenset())


@dataclass(frozen=True)
class CameraRow:
    """A camera, its edge, and its last state, None if it never spoke; times are seconds since the epoch.

    `accuracy` is what was measured of a student of it, as JSON.
    """

    name: str
    edge: str
    enrolled: float
    revoked: bool
    state: CameraState | None
    heard: float | None
    accuracy: str | None = None


class Roster:
    """The enrolled edges in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def members(self) -> Members:
        """Return who may speak now."""
        joined = sa.select(edges.c.public_key, cameras.c.name).join(cameras, cameras.c.edge == edges.c.name)
        found: dict[str, set[str]] = {}
        with self._index.read() as connection:
            for key, camera in connection.execute(joined.where(~edges.c.revoked)):
                found.setdefault(key, set()).add(camera)
            removed = removed_cameras(connection)
            names = {row.public_key: row.name for row in connection.execute(edges.select())}
        return Members({key: frozenset(mine) for key, mine in found.items()}, removed, names)

    def allowed(self, edge_key: str) -> bool:
        """Return whether the edge with that key may connect."""
        query = sa.select(edges.c.name).where(edges.c.public_key == edge_key, ~edges.c.revoked)
        with self._index.read() as connection:
            return connection.execute(query).first() is not None

    def revoke(self, edge: str) -> bool:
        """Refuse an edge from now on, even on the connection it has; return whether there is one of that name."""
        with self._index.write() as connection:
            return connection.execute(edges.update().where(edges.c.name == edge).values(revoked=True)).rowcount > 0

    def remove(self, camera: str, at: float) -> str:
        """Refuse a camera's frames from now on, end its round and its requests; return the edge that it belonged to.

        What it recorded and its models stay. Raises InputError when there is no such camera.
        """
        mine = cameras.c.name == camera
        with self._index.write() as connection:
            if (edge := connection.execute(sa.select(cameras.c.edge).where(mine)).scalar()) is None:
                raise InputError(f"there is no camera {camera}: see `culling cloud status`")
            connection.execute(sa.delete(cameras).where(mine))
            connection.execute(sa.delete(wishes).where(wishes.c.camera == camera))
            running = (rounds.c.camera == camera) & rounds.c.state.in_(UNFINISHED)
            connection.execute(sa.update(rounds).where(running).values(state="failed", finished=at, reason=REMOVED))
            open_ = (requests.c.camera == camera) & requests.c.done.is_(None)
            connection.execute(sa.update(requests).where(open_).values(done=at, failed=True, answer=REMOVED))
            remember(connection, camera, removed=True)
        return str(edge)

    def rows(self, after: str = "", most: int | None = None) -> list[CameraRow]:
        """Return every camera, by name; or the first `most` of those whose names come `after` another's."""
        return self._rows(cameras.c.name > after, most)

    def _rows(self, wanted: sa.ColumnElement[bool], most: int | None = None) -> list[CameraRow]:
        joined = sa.select(cameras, edges.c.enrolled, edges.c.revoked).join(edges, cameras.c.edge == edges.c.name)
        with self._index.read() as connection:
            return [
                CameraRow(
                    row.name,
                    row.edge,
                    row.enrolled,
                    row.revoked,
                    _state(row.state),
                    row.heard,
                    row.accuracy,
                )
                for row in connection.execute(joined.where(wanted).order_by(cameras.c.name).limit(most))
            ]

    def require(self, camera: str) -> CameraRow:
        """Return the camera of that name. Raises InputError when there is none."""
        for row in self._rows(cameras.c.name == camera):
            return row
        raise InputError(f"there is no camera {camera}: see `culling cloud status`")

    def heard(self, states: Mapping[str, CameraState], at: float | Mapping[str, float]) -> None:
        """Keep the latest state of each camera, said `at` (seconds since the epoch), unless a later one is known.

        Where several services hear, a camera's edge may have told another since. A time that is further in the future
        than any clock that is set is none: that clock was set back.
        """
        times = dict.fromkeys(states, at) if isinstance(at, int | float) else at
        rows = [
            {
                "camera": name,
                "word": msgspec.json.encode(state).decode(),
                "said": times[name],
                "ahead": times[name] + AHEAD_S,
            }
            for name, state in states.items()
        ]
        if rows:
            with self._index.write() as connection:
                connection.execute(_HEARD, rows)


class Words:
    """The latest word on every camera, whichever service heard it; of those that are known only the newer are read.

    Used from one thread.
    """

    def __init__(self, index: Index, clock: Clock) -> None:
        self.latest: dict[str, Told] = {}
        self._index = index
        self._clock = clock
        self._next = clock.monotonic()

    def now(self) -> dict[str, Told]:
        """Return all, as of this second. Raises StorageError."""
        self.news()
        return self.latest

    def news(self) -> dict[str, Told]:
        """Return those that are new since the last call. Raises StorageError."""
        if self._clock.monotonic() < self._next:
            return {}
        newest = max((heard for _, heard in self.latest.values()), default=0.0)
        newest = min(newest, self._clock.now())  # or one wrong clock would hide all others
        fresh = cameras.c.heard > newest - SILENT_S  # a clock that is further behind makes its cameras look silent
        with self._index.read() as connection:
            found = connection.execute(sa.select(cameras.c.name, cameras.c.heard).where(fresh)).all()
            names = {name for name, heard in found if name not in self.latest or self.latest[name][1] != heard}
            said = sa.select(cameras.c.name, cameras.c.state, cameras.c.heard).where(fresh)
            if len(names) < FEW:
                said = said.where(cameras.c.name.in_(names))
            rows = connection.execute(said).all() if names else []
        told = {row.name: (state, row.heard) for row in rows if row.name in names and (state := _state(row.state))}
        self.latest.update(told)
        self._next = self._clock.monotonic() + EVERY_S
        return told


def state_of(revoked: bool, state: CameraState | None, heard: float | None, now: float) -> State:
    """Return the one word for a camera: what its edge said last, unless it has been silent for long, or never spoke."""
    if revoked:
        return "revoked"
    if state is None or heard is None:
        return "unseen"
    if now - heard > SILENT_S:
        return "down"
    return _STATES.get(state.state, "down")


def add_edge(
    connection: sa.Connection, edge: str, public_key: str, names: Collection[str], at: float, replace: bool = False
) -> None:
    """Add an edge and its cameras, or with `replace` give a known edge a new key and more cameras.

    Raises SettingsError as `check_free` does.
    """
    if check_free(connection, edge, names, replace):
        renewed = {"public_key": public_key, "revoked": False, "enrolled": at}
        connection.execute(edges.update().where(edges.c.name == edge).values(**renewed))
    else:
        connection.execute(edges.insert().values(name=edge, public_key=public_key, revoked=False, enrolled=at))
    for name in names:
        _add_camera(connection, name, edge)


def check_free(connection: sa.Connection, edge: str, names: Collection[str], replace: bool) -> bool:
    """Return whether the edge is known.

    Raises SettingsError when it is and must not be replaced, or when a camera belongs to another edge.
    """
    known = connection.execute(sa.select(edges.c.name).where(edges.c.name == edge)).first() is not None
    if known and not replace:
        raise SettingsError(f"edge {edge} is already enrolled: --replace gives it a new key and ends the old one")
    taken = sa.select(cameras.c.name, cameras.c.edge).where(cameras.c.name.in_(names), cameras.c.edge != edge)
    if (other := connection.execute(taken).first()) is not None:
        raise SettingsError(f"camera {other.name} belongs to edge {other.edge}: choose another name")
    return known


def add_camera(connection: sa.Connection, name: str, edge: str) -> None:
    """Give a known edge a camera. Raises SettingsError as `check_new` does."""
    check_new(connection, name, edge)
    _add_camera(connection, name, edge)


def check_new(connection: sa.Connection, name: str, edge: str) -> None:
    """Raise SettingsError when the edge is unknown or revoked, or the camera is there."""
    _require_edge(connection, edge)
    taken = sa.select(cameras.c.edge).where(cameras.c.name == name)
    if (other := connection.execute(taken).scalar()) is not None:
        raise SettingsError(f"camera {name} belongs to edge {other} already: `culling cloud camera move` moves it")


def move_camera(connection: sa.Connection, name: str, edge: str) -> None:
    """Give a camera to another edge, which has not spoken of it yet. Raises SettingsError as `add_camera` does."""
    _require_edge(connection, edge)
    here = connection.execute(sa.select(cameras.c.edge).where(cameras.c.name == name)).scalar()
    if here is None:
        raise SettingsError(f"there is no camera {name}: `culling cloud camera add` adds one")
    if here == edge:
        raise SettingsError(f"camera {name} belongs to edge {edge} already")
    moved = {"edge": edge, "state": None, "heard": None}
    connection.execute(cameras.update().where(cameras.c.name == name).values(**moved))


def names_of(connection: sa.Connection, edge: str) -> set[str]:
    """Return the names of an edge's cameras."""
    return set(connection.execute(sa.select(cameras.c.name).where(cameras.c.edge == edge)).scalars())


def _require_edge(connection: sa.Connection, edge: str) -> None:
    row = connection.execute(edges.select().where(edges.c.name == edge)).first()
    if row is None:
        raise SettingsError(f"there is no edge {edge}: `culling cloud enroll` enrolls one")
    if row.revoked:
        raise SettingsError(f"edge {edge} is revoked: `culling cloud enroll --replace` lets it back in")
    if len(names_of(connection, edge)) >= MAX_CAMERAS:
        raise SettingsError(f"edge {edge} has {MAX_CAMERAS} cameras already, the most that one can have")


def _add_camera(connection: sa.Connection, name: str, edge: str) -> None:
    readmit(connection, name)
    if connection.execute(sa.select(cameras.c.name).where(cameras.c.name == name)).first() is None:
        connection.execute(cameras.insert().values(name=name, edge=edge))


def _state(text: str | None) -> CameraState | None:
    """Return what was said of a camera last; a word that cannot be read counts as none, until the next one comes."""
    try:
        return None if text is None else msgspec.json.decode(text, type=CameraState)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
