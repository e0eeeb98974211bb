"""What an operator wants of each camera, in force until told otherwise.

It is kept in the index, and told to an edge again whenever that says it does otherwise. One that does not know `Orders`
refuses them and goes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from culling.cloud.store.index import Index, wishes
from culling.common.wire.messages import CameraState, Orders


@dataclass(frozen=True)
class Wish:
    """What is wanted of one camera."""

    held: bool = False
    pinned: str | None = None
    paused: bool = False
    frames_per_window: int | None = None
    frame: int | None = None

    def orders(self, camera: str) -> Orders:
        """Return the part of it that an edge is told."""
        return Orders(camera, self.paused, self.frames_per_window, self.frame)

    def done_by(self, state: CameraState) -> bool:
        """Return whether that is what the edge does."""
        settled = (state.paused, state.frames_per_window) == (self.paused, self.frames_per_window or 0)
        return settled and self.frame in (None, state.frame)


class Wishes:
    """The wishes in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def all(self) -> dict[str, Wish]:
        """Return what is wanted, by camera."""
        with self._index.read() as connection:
            return {row.camera: _wish(row) for row in connection.execute(wishes.select())}

    def change(self, camera: str, **changes: Any) -> None:
        """Want something else of a camera; what is not named stays."""
        mine = wishes.c.camera == camera
        with self._index.write() as connection:
            if connection.execute(wishes.update().where(mine).values(**changes)).rowcount == 0:
                row = {"camera": camera, "held": False, "paused": False, **changes}
                connection.execute(wishes.insert().values(**row))

    def frame_taken(self, camera: str, frame: int) -> None:
        """Want the frame of that request no more."""
        with self._index.write() as connection:
            asked = (wishes.c.camera == camera) & (wishes.c.frame == frame)
            connection.execute(wishes.update().where(asked).values(frame=None))


def _wish(row: sa.Row[Any]) -> Wish:
    return Wish(row.held, row.pinned, row.paused, row.frames_per_window, row.frame)
