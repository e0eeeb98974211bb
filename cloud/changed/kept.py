"""What both students of a round found where they differ most, in the index: kept as long as the frames are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from culling.cloud.changed.differ import Different
from culling.cloud.store.classes.lists import Reading, number
from culling.cloud.store.index import Index, changes, frames
from culling.common.frame import Detections
from culling.common.wire.messages import to_wire


@dataclass(frozen=True)
class Change:
    """What the student before and the new one found in a frame, by the class list in force for its camera."""

    frame: str
    difference: float
    before: Detections
    after: Detections


class Changes:
    """The changes of every round. Safe to use from several threads and processes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def keep(self, round_id: int, camera: str, found: Sequence[Different], classes: Sequence[str]) -> None:
        """Keep what a round's gate found, by the class list `classes`, in place of what it had kept before."""
        with self._index.write() as connection:
            by = number(connection, classes)
            rows = [
                {
                    "round": round_id,
                    "frame": one.pair.frame,
                    "camera": camera,
                    "difference": one.difference,
                    "before": msgspec.msgpack.encode(to_wire(one.pair.before)),
                    "after": msgspec.msgpack.encode(to_wire(one.pair.after)),
                    "class_list": by,
                }
                for one in found
            ]
            connection.execute(changes.delete().where(changes.c.round == round_id))
            if rows:
                connection.execute(changes.insert(), rows)

    def of(self, round_id: int) -> list[Change]:
        """Return those of a round whose frames are still stored, the most different first."""
        here = sa.exists().where(frames.c.id == changes.c.frame, frames.c.state == "stored")
        query = changes.select().where(changes.c.round == round_id, here)
        with self._index.read() as connection:
            rows = connection.execute(query.order_by(changes.c.difference.desc(), changes.c.frame)).all()
            reading = Reading(connection, rows)
        return [
            Change(
                row.frame,
                row.difference,
                reading.translated(row.camera, row.before, row.class_list),
                reading.translated(row.camera, row.after, row.class_list),
            )
            for row in rows
        ]
