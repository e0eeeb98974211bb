"""Which models of a camera are one student: signed anew, it has another id, and the same bytes and scale."""

from __future__ import annotations

import sqlalchemy as sa

from culling.cloud.store.index import models, trials


def alike(connection: sa.Connection, camera: str, model_id: str | None) -> list[str]:
    """Return the ids of a camera's models that are the student `model_id`, itself among them, newest first.

    There are none where that is not known.
    """
    one = models.alias()
    mine = (one.c.camera == camera) & (one.c.model_id == model_id)
    query = sa.select(models.c.model_id).join(one, same(models, one)).where(mine)
    return list(connection.execute(query.order_by(models.c.counter.desc())).scalars())


def live_of(connection: sa.Connection, camera: str) -> str | None:
    """Return the id of a camera's live model."""
    live = sa.select(models.c.model_id).where(models.c.camera == camera, models.c.state == "live")
    return connection.execute(live).scalar()


def state_of(connection: sa.Connection, camera: str, model_id: str | None) -> str | None:
    """Return what a camera's model is; None for one that is not known."""
    mine = (models.c.camera == camera) & (models.c.model_id == model_id)
    return connection.execute(sa.select(models.c.state).where(mine)).scalar()


def created_of(connection: sa.Connection, camera: str, model_id: str | None) -> float | None:
    """Return when a camera's model was signed, in seconds since the epoch; None for one that is not known."""
    mine = (models.c.camera == camera) & (models.c.model_id == model_id)
    return connection.execute(sa.select(models.c.created).where(mine)).scalar()


def is_in_use(connection: sa.Connection, camera: str, model_id: str | None) -> bool:
    """Return whether a student is live at a camera, under whatever id."""
    return live_of(connection, camera) in alike(connection, camera, model_id)


def uses(connection: sa.Connection, camera: str, sha256: str, scale: float) -> str | None:
    """Return the id of a camera's live model where it has those bytes at that scale."""
    mine = (models.c.camera == camera) & (models.c.state == "live")
    these = (models.c.sha256 == sha256) & (models.c.scale == scale)
    return connection.execute(sa.select(models.c.model_id).where(mine, these)).scalar()


def gone_back_to() -> sa.Select[tuple[str, str | None]]:
    """Return the query of the file and the weights of all that cameras would go back to, were what is new taken back.

    These are the models before students that had a trial, and are in use still, under whatever id.
    """
    student, live, before = models.alias(), models.alias(), models.alias()
    had_trial = (student.c.camera == trials.c.camera) & (student.c.model_id == trials.c.model_id)
    is_before = (before.c.camera == trials.c.camera) & (before.c.model_id == trials.c.before)
    joined = trials.join(student, had_trial).join(live, same(live, student)).join(before, is_before)
    return sa.select(before.c.sha256, before.c.weights).select_from(joined).where(live.c.state == "live")


def same(one: sa.FromClause, other: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that rows of two tables of models are one student of a camera."""
    return sa.and_(*(one.c[name] == other.c[name] for name in ("camera", "sha256", "scale")))
