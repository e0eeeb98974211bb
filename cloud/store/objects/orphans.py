"""Objects of frames that no row names, looked for now and then by one of the services that share a bucket.

A picture is written before its row, so that one without a row may be a moment old, and the other service's; after
`SETTLED_S` it is left over. What its own record says is entered in the index, as after an index was restored or lost;
what the index says is gone is removed, as is one that overwrote nothing because its frame has another picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import sqlalchemy as sa

from culling.cloud.store.frames import FrameStore, Reconciled
from culling.cloud.store.index import Index, frames, stored_among
from culling.cloud.store.objects.objects import Item, Objects

SETTLED_S = 3600.0
"""No service takes so long between a picture and its row."""

AT_ONCE = 1000


def collect(index: Index, objects: Objects, store: FrameStore, now: float) -> Reconciled:
    """Settle the orphans that were written before `now - SETTLED_S`, seconds since the epoch. Raises StorageError."""
    counts = dict.fromkeys(("reindex", "remove", "quarantine"), 0)
    for item in _orphans(index, objects, now - SETTLED_S):
        if (done := store.settle_object(item.name)) is not None:
            counts[done] += 1
    return Reconciled(counts["reindex"], counts["remove"], counts["quarantine"])


def _orphans(index: Index, objects: Objects, before: float) -> Iterator[Item]:
    old = (item for item in objects.list("frames") if item.written < before)
    while some := list(islice(old, AT_ONCE)):
        names = {item.name: item.name.rpartition("/")[2].partition(".")[0].partition("-") for item in some}
        query = sa.select(frames.c.id, frames.c.sha256)
        query = query.where(stored_among({name for name, _, _ in names.values()}))
        with index.read() as connection:
            stored = {(name, sha256[:16]) for name, sha256 in connection.execute(query)}
        yield from (item for item in some if (names[item.name][0], names[item.name][2]) not in stored)
