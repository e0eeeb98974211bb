"""What may not be stored again: frames of a camera that was removed, or from before its last purge."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, TypeAlias

import sqlalchemy as sa

from culling.cloud.store.index import purges

Withheld: TypeAlias = Literal["camera-removed", "purged"]


def remember(connection: sa.Connection, camera: str, before: float = 0.0, removed: bool = False) -> None:
    """Refuse from now on what `camera` captured `before` a time, and with `removed` everything, until `readmit`."""
    row = connection.execute(purges.select().where(purges.c.camera == camera)).first()
    if row is None:
        connection.execute(purges.insert().values(camera=camera, before=before, removed=removed))
        return
    kept = {"before": max(row.before, before), "removed": row.removed or removed}
    connection.execute(purges.update().where(purges.c.camera == camera).values(**kept))


def readmit(connection: sa.Connection, camera: str) -> None:
    """Take frames of a camera that was removed again; not those from before its last purge."""
    connection.execute(purges.update().where(purges.c.camera == camera).values(removed=False))


def withheld(connection: sa.Connection, taken: Collection[tuple[str, float]]) -> dict[tuple[str, float], Withheld]:
    """Return which of the frames, by camera and time of capture, may not be stored, and why."""
    query = purges.select().where(purges.c.camera.in_({camera for camera, _ in taken}))
    rows = {row.camera: row for row in connection.execute(query)}
    reasons: dict[tuple[str, float], Withheld] = {}
    for camera, captured in taken:
        if camera in rows and rows[camera].removed:
            reasons[camera, captured] = "camera-removed"
        elif camera in rows and captured < rows[camera].before:
            reasons[camera, captured] = "purged"
    return reasons


def removed_cameras(connection: sa.Connection) -> frozenset[str]:
    """Return the names of the cameras that were removed and not added again."""
    return frozenset(connection.execute(sa.select(purges.c.camera).where(purges.c.removed)).scalars())
