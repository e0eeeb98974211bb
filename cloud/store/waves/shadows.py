"""Models that are to run beside the live one of their camera, as rows of the registry: at most one of each camera."""

from __future__ import annotations

import sqlalchemy as sa

from culling.cloud.store.index import Index, models


def shadow_ids(index: Index) -> dict[str, str]:
    """Return the id of the model that is to run beside the live one, of each camera that has such a one."""
    query = sa.select(models.c.camera, models.c.model_id).where(models.c.state == "shadow")
    with index.read() as connection:
        return {row.camera: row.model_id for row in connection.execute(query)}


def manifest_of(index: Index, camera: str, model_id: str) -> bytes | None:
    """Return the signed manifest of a model in whatever state; None where it is not known any more."""
    query = sa.select(models.c.manifest).where(_named(camera, model_id))
    with index.read() as connection:
        return connection.execute(query).scalar() or None


def promote(connection: sa.Connection, camera: str, model_id: str) -> bool:
    """Make the model live that ran beside the live one; return whether it still did."""
    mine = _named(camera, model_id) & (models.c.state == "shadow")
    if connection.execute(sa.select(models.c.counter).where(mine)).first() is None:
        return False
    give_way(connection, camera)
    _move(connection, mine, "live")
    return True


def end_shadow(connection: sa.Connection, camera: str, model_id: str, state: str) -> bool:
    """Take back the model that runs beside the live one, if it is that one; return whether it was."""
    return _move(connection, _named(camera, model_id) & (models.c.state == "shadow"), state) > 0


def give_way(connection: sa.Connection, camera: str) -> None:
    """Make the live model of a camera the previous one, for another to take its place."""
    mine = models.c.camera == camera
    _move(connection, mine & (models.c.state == "previous"), "retired")
    _move(connection, mine & (models.c.state == "live"), "previous")


def _named(camera: str, model_id: str) -> sa.ColumnElement[bool]:
    return (models.c.camera == camera) & (models.c.model_id == model_id)


def _move(connection: sa.Connection, which: sa.ColumnElement[bool], state: str) -> int:
    return connection.execute(models.update().where(which).values(state=state)).rowcount
