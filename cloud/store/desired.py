"""What is wanted of each camera: by an operator, in force until the next request changes it, and its pace and profile,
which the service judges.

Kept in the index, and sent to an edge again as long as its counters say otherwise (`link/offers.py`). An edge of a
version that does not know the message refuses it and goes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from culling.cloud.profile.score import EVERY, Scored
from culling.cloud.store.index import Index, cameras, wishes
from culling.cloud.store.people.deeds import Deed, write
from culling.common.wire.messages import CameraState, Desired
from culling.common.wire.profile import NONE, Profile

T = TypeVar("T", bound=msgspec.Struct)


class Paced(msgspec.Struct, frozen=True):
    """A camera's pace: by what its candidates are multiplied (`times`), since when, and `why`.

    It was judged by audits that were labelled until `judged`, and by a look for falls at `looked`; both tell what is
    new. Times are seconds since the epoch.
    """

    times: float = 1.0
    since: float = 0.0
    why: str = ""
    judged: float = 0.0
    looked: float = 0.0


class Profiled(msgspec.Struct, frozen=True):
    """A camera's profile `now`, that of each hour of its day (UTC; none: of all of them), and `why`, since when.

    `own`: its own audits chose `whole`, the profile of its whole day; else those of its site did, or nobody. They were
    labelled until `judged`; a look for falls at `looked` was taken into account. Times are seconds since the epoch.
    """

    now: Scored = EVERY
    whole: Scored = EVERY
    hours: tuple[Scored, ...] = ()
    why: str = ""
    since: float = 0.0
    own: bool = False
    judged: float = 0.0
    looked: float = 0.0

    def at(self, hour: int) -> Scored:
        """Return the profile of an hour of the day, in [0, 24)."""
        return self.hours[hour] if self.hours else self.whole


@dataclass(frozen=True)
class DesiredState:
    """What is wanted of one camera.

    `held`: no round starts by itself. `pinned`: the model to stay with. `classes`: the set of classes to look for, None
    for that of the settings. `paced` is None where its pace was never judged, `profiled` where it has no profile.
    `paused`, `frames_per_window`, `frame`, `pace` and `profile` are what its edge is sent, see the wire's `Desired`.
    """

    held: bool = False
    pinned: str | None = None
    paused: bool = False
    frames_per_window: int | None = None
    frame: int | None = None
    classes: str | None = None
    paced: Paced | None = None
    profiled: Profiled | None = None

    @property
    def profile(self) -> Profile:
        """The profile that its edge should follow."""
        return NONE if self.profiled is None else self.profiled.now.profile

    @property
    def pace(self) -> float:
        """The pace that its edge should have: a budget that an operator gave goes before any."""
        return 1.0 if self.paced is None or self.frames_per_window is not None else self.paced.times

    def message(self, state: CameraState) -> Desired:
        """Return the part of it that the edge of the camera which said so is sent."""
        pace = None if state.pace is None or self.pace == 1.0 else self.pace  # an edge of 0.2 would refuse all of it
        profile = None if state.profile is None or self.profile == NONE else self.profile
        return Desired(state.camera, self.paused, self.frames_per_window, self.frame, pace, profile)

    def done_by(self, state: CameraState) -> bool:
        """Return whether the edge already does so."""
        settled = (state.paused, state.frames_per_window) == (self.paused, self.frames_per_window or 0)
        steered = state.pace in (None, self.pace) and state.profile in (None, self.profile)
        return settled and steered and self.frame in (None, state.frame)


class DesiredStates:
    """The desired state of every camera, in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def all(self) -> dict[str, DesiredState]:
        """Return what is wanted, by camera."""
        with self._index.read() as connection:
            return {row.camera: _desired(row) for row in connection.execute(wishes.select())}

    def change(self, camera: str, **changes: Any) -> None:
        """Change what is wanted of a camera; what is not named stays."""
        with self._index.write() as connection:
            _change(connection, camera, **changes)

    def take_pace(self, camera: str, paced: Paced | None, at: float, deed: Deed | None = None) -> None:
        """Keep what a camera's pace was judged to be, and with it what was done; nothing of a camera that is gone."""
        self._take(camera, "paced", paced, at, deed)

    def take_profile(self, camera: str, profiled: Profiled | None, at: float, deed: Deed | None = None) -> None:
        """Keep the profile that was chosen for a camera, as `take_pace` does its pace."""
        self._take(camera, "profiled", profiled, at, deed)

    def _take(self, camera: str, name: str, judged: msgspec.Struct | None, at: float, deed: Deed | None) -> None:
        mine = sa.select(cameras.c.name).where(cameras.c.name == camera)
        text = None if judged is None else msgspec.json.encode(judged).decode()
        with self._index.write() as connection:
            if connection.execute(mine).first() is None:
                return
            _change(connection, camera, **{name: text})
            if deed is not None:
                write(connection, deed, at)

    def frame_taken(self, camera: str, frame: int) -> None:
        """Drop the request for a frame of that number: the edge has taken it."""
        with self._index.write() as connection:
            asked = (wishes.c.camera == camera) & (wishes.c.frame == frame)
            connection.execute(wishes.update().where(asked).values(frame=None))


def _change(connection: sa.Connection, camera: str, **changes: Any) -> None:
    mine = wishes.c.camera == camera
    if connection.execute(wishes.update().where(mine).values(**changes)).rowcount == 0:
        row = {"camera": camera, "held": False, "paused": False, **changes}
        connection.execute(wishes.insert().values(**row))


def _desired(row: sa.Row[Any]) -> DesiredState:
    wanted = (row.held, row.pinned, row.paused, row.frames_per_window, row.frame, row.classes)
    return DesiredState(*wanted, _judged(row.paced, Paced), _judged(row.profiled, Profiled))


def _judged(text: str | None, kind: type[T]) -> T | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:  # by another version: as if it had never been judged
        return None
