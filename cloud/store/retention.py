"""How long the index keeps records of what is over: rounds, swaps, requests, waves, and models that are out of use."""

from __future__ import annotations

import sqlalchemy as sa

from culling.cloud.store.index import Index, models, requests, rollouts, rounds, swaps, trials

AT_ONCE = 500
"""Most records of a kind that are deleted in one call: ingest waits for its end."""


def forget_records(index: Index, before: float) -> dict[str, int]:
    """Delete records of what ended before that time, in seconds since the epoch; return how many, by table.

    A model that is live, previous or a camera's base stays, and so do each camera's last round, unfinished rounds and
    open requests. Of each table at most `AT_ONCE` go: the next call goes on.
    """
    later = rounds.alias("later")
    followed = sa.exists().where(later.c.camera == rounds.c.camera, later.c.finished > rounds.c.finished)
    over = {
        rounds: (rounds.c.finished < before) & followed,
        swaps: swaps.c.received < before,
        requests: requests.c.done < before,
        trials: trials.c.ended < before,
        rollouts: rollouts.c.ended < before,
        models: (models.c.created < before)
        & models.c.state.in_(("retired", "rejected", "revoked"))
        & (models.c.origin != "base"),
    }
    with index.write() as connection:
        return {table.name: _delete(connection, table, which) for table, which in over.items()}


def _delete(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    key = tuple(table.primary_key.columns)
    chosen = connection.execute(sa.select(*key).where(which).limit(AT_ONCE)).all()
    for row in chosen:
        connection.execute(table.delete().where(*(column == value for column, value in zip(key, row, strict=True))))
    return len(chosen)
