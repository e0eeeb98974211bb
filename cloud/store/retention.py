"""How long the index keeps records of what is over: rounds, swaps, requests, and models that are out of use."""

from __future__ import annotations

import sqlalchemy as sa

from culling.cloud.store.index import Index, models, requests, rounds, swaps


def forget_records(index: Index, before: float) -> dict[str, int]:
    """Delete records of what ended before that time, in seconds since the epoch; return how many, by table.

    A model that is live, previous or a camera's base stays, and so do each camera's last round, unfinished rounds and
    open requests.
    """
    newest = sa.select(sa.func.max(rounds.c.finished)).where(rounds.c.finished.is_not(None)).group_by(rounds.c.camera)
    over = {
        rounds: (rounds.c.finished < before) & rounds.c.finished.not_in(newest),
        swaps: swaps.c.received < before,
        requests: requests.c.done < before,
        models: (models.c.created < before)
        & models.c.state.in_(("retired", "rejected", "revoked"))
        & (models.c.origin != "base"),
    }
    with index.write() as connection:
        return {table.name: connection.execute(sa.delete(table).where(which)).rowcount for table, which in over.items()}
