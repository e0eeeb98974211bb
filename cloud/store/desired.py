"""What an operator wants of each camera, in force until the next request changes it.

Kept in the index, and sent to an edge again as long as its counters say otherwise (`link/offers.py`). An edge of a
version that does not know the message refuses it and goes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from culling.cloud.store.index import Index, wishes
from culling.common.wire.messages import CameraState, Desired


@dataclass(frozen=True)
class DesiredState:
    """What is wanted of one camera.

    `held`: no round starts by itself. `pinned`: the model to stay with. `classes`: the set of classes to look for, None
    for that of the settings. `paused`, `frames_per_window` and `frame` are
    what its edge is sent, see the wire's `Desired`.
    """

    held: bool = False
    pinned: str | None = None
    paused: bool = False
    frames_per_window: int | None = None
    frame: int | None = None
    classes: str | None = None

    def message(self, camera: str) -> Desired:
        """Return the part of it that the camera's edge is sent."""
        return Desired(camera, self.paused, self.frames_per_window, self.frame)

    def done_by(self, state: CameraState) -> bool:
        """Return whether the edge already does so."""
        settled = (state.paused, state.frames_per_window) == (self.paused, self.frames_per_window or 0)
        return settled and self.frame in (None, state.frame)


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
        mine = wishes.c.camera == camera
        with self._index.write() as connection:
            if connection.execute(wishes.update().where(mine).values(**changes)).rowcount == 0:
                row = {"camera": camera, "held": False, "paused": False, **changes}
                connection.execute(wishes.insert().values(**row))

    def frame_taken(self, camera: str, frame: int) -> None:
        """Drop the request for a frame of that number: the edge has taken it."""
        with self._index.write() as connection:
            asked = (wishes.c.camera == camera) & (wishes.c.frame == frame)
            connection.execute(wishes.update().where(asked).values(frame=None))


def _desired(row: sa.Row[Any]) -> DesiredState:
    return DesiredState(row.held, row.pinned, row.paused, row.frames_per_window, row.frame, row.classes)
