"""What is wanted of each camera: by an operator, in force until the next request changes it, and its pace, which the
service judges.

Kept in the index, and sent to an edge again as long as its counters say otherwise (`link/offers.py`). An edge of a
version that does not know the message refuses it and goes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, cameras, wishes
from culling.cloud.store.people.deeds import Deed, write
from culling.common.wire.messages import CameraState, Desired


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


@dataclass(frozen=True)
class DesiredState:
    """What is wanted of one camera.

    `held`: no round starts by itself. `pinned`: the model to stay with. `classes`: the set of classes to look for, None
    for that of the settings. `paced` is None where its pace was never judged. `paused`, `frames_per_window`, `frame`
    and `pace` are what its edge is sent, see the wire's `Desired`.
    """

    held: bool = False
    pinned: str | None = None
    paused: bool = False
    frames_per_window: int | None = None
    frame: int | None = None
    classes: str | None = None
    paced: Paced | None = None

    @property
    def pace(self) -> float:
        """The pace that its edge should have: a budget that an operator gave goes before any."""
        return 1.0 if self.paced is None or self.frames_per_window is not None else self.paced.times

    def message(self, state: CameraState) -> Desired:
        """Return the part of it that the edge of the camera which said so is sent."""
        pace = None if state.pace is None or self.pace == 1.0 else self.pace  # an edge of 0.2 would refuse all of it
        return Desired(state.camera, self.paused, self.frames_per_window, self.frame, pace)

    def done_by(self, state: CameraState) -> bool:
        """Return whether the edge already does so."""
        settled = (state.paused, state.frames_per_window) == (self.paused, self.frames_per_window or 0)
        return settled and self.frame in (None, state.frame) and state.pace in (None, self.pace)


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
        mine = sa.select(cameras.c.name).where(cameras.c.name == camera)
        text = None if paced is None else msgspec.json.encode(paced).decode()
        with self._index.write() as connection:
            if connection.execute(mine).first() is None:
                return
            _change(connection, camera, paced=text)
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
    return DesiredState(*wanted, _paced(row))


def _paced(row: sa.Row[Any]) -> Paced | None:
    try:
        return None if row.paced is None else msgspec.json.decode(row.paced, type=Paced)
    except msgspec.DecodeError:  # by another version: as if it had never been judged
        return None
