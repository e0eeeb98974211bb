"""Who looks at a camera live, and its newest picture: one row of the index for each camera that is looked at.

Pages write the looks and ingests the pictures: there may be several of either, in processes of their own. A row ends
with the last look, and the picture with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from culling.cloud.store.index import Index, looks

LOOKS_S = 5.0
"""Whoever has asked for a picture looks for so long; a page that looks asks again after a second."""

RENEW_S = 3.0
"""A look that ends sooner is renewed: one change of the index in two seconds, however many look."""


@dataclass(frozen=True)
class Sight:
    """A live picture. `width` and `height` are those of the frame in which its detections are, in pixels."""

    captured: float
    received: float
    model_id: str
    width: int
    height: int
    detections: bytes | None  # WireDetections
    jpeg: bytes


_NOTHING: dict[str, Any] = dict.fromkeys(Sight.__dataclass_fields__)


class Looks:
    """The looks in the index; times are seconds since the epoch. All methods raise StorageError."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def look(self, camera: str, now: float) -> Sight | None:
        """Note that somebody looks at a camera; return its newest picture, None where none has come yet."""
        with self._index.read() as connection:
            row = connection.execute(looks.select().where(looks.c.camera == camera)).first()
        current = row is not None and row.until > now
        if row is None or row.until < now + RENEW_S:
            self._renew(camera, now, current)
        if row is None or not current or row.jpeg is None:
            return None
        return Sight(**{name: getattr(row, name) for name in _NOTHING})

    def until(self) -> dict[str, float]:
        """Return for each camera that was looked at until when; it may be over."""
        with self._index.read() as connection:
            return {row.camera: row.until for row in connection.execute(sa.select(looks.c.camera, looks.c.until))}

    def keep(self, sights: Mapping[str, Sight], now: float) -> None:
        """Keep the newest picture of each camera that is still looked at, and forget those of all others."""
        with self._index.write() as connection:
            connection.execute(looks.delete().where(looks.c.until <= now))
            for camera, sight in sights.items():
                connection.execute(looks.update().where(looks.c.camera == camera).values(**asdict(sight)))

    def _renew(self, camera: str, now: float, current: bool) -> None:
        told = {"until": now + LOOKS_S, **({} if current else _NOTHING)}
        with self._index.write() as connection:
            if connection.execute(looks.update().where(looks.c.camera == camera).values(**told)).rowcount == 0:
                connection.execute(looks.insert().values(camera=camera, **told))
