"""What every camera saw and forwarded, minute by minute: by how much its counters rose, kept for a week.

A counter that fell was reset when its agent restarted, and rose by what it now reads. A minute in which a camera was
silent has no row, so that silence never reads as a rate of zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, cameras, history
from culling.cloud.store.purge.withheld import removed_cameras
from culling.common.metrics import REASONS
from culling.common.process.keeping_up import look_at
from culling.common.wire.messages import CameraState

COUNTS = ("seen", "inferred", "dropped", "evicted", "acked", "taken", "missed", *REASONS)
KEEP_MINUTES = 7 * 24 * 60
"""A week: what `culling cloud report` plots."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Looked:
    """How many frames a camera's `model` looked at, and how many `came` to it (see `keeping_up.py`).

    Of minutes that earlier versions recorded the model is not known, and all frames count that were seen.
    """

    camera: str
    model: str | None
    inferred: int
    came: int


class History:
    """Writes what cameras tell; `record` is called from one thread.

    Up to where a camera was counted stands beside its minutes and is written with them, so that whichever process
    records the next minute goes on from there. `before` is what those say that were not counted yet.
    """

    def __init__(self, index: Index, before: Mapping[str, CameraState]) -> None:
        self._index = index
        self._before = {camera: counts(state) for camera, state in before.items()}

    def record(self, states: Mapping[str, CameraState], minute: int) -> None:
        """Add what each camera's counters rose by since they were counted to its row of `minute`, since the epoch."""
        this = history.c.minute == minute
        with self._index.write() as connection:
            rows = self._risen(connection, states, minute)
            there = {row.camera: row for row in connection.execute(history.select().where(this))}
            if fresh := [row for row in rows if row["camera"] not in there]:
                connection.execute(history.insert(), fresh)
            for row in rows:
                if (found := there.get(row["camera"])) is not None:  # the service was restarted within the minute
                    more = {name: row[name] + (getattr(found, name) or 0) for name in COUNTS}
                    connection.execute(history.update().where(this, history.c.camera == row["camera"]).values(**more))
            connection.execute(history.delete().where(history.c.minute < minute - KEEP_MINUTES))
        self._before |= {camera: counts(state) for camera, state in states.items()}

    def _risen(self, connection: sa.Connection, states: Mapping[str, CameraState], minute: int) -> list[Row]:
        """Return the rows of a minute, having noted that they are counted."""
        removed, known = removed_cameras(connection), sa.select(cameras.c.name, cameras.c.counted)
        before = {camera: _counts(text) for camera, text in connection.execute(known) if text is not None}
        rows, marks = [], []
        for camera, state in states.items():
            if camera in removed:
                continue
            now = counts(state)
            risen = rise(before.get(camera) or self._before.get(camera, now), now)
            level = {"threshold": state.threshold, "loss_mean": state.loss_mean, "model": state.model_id}
            rows.append({"camera": camera, "minute": minute, **risen, **level})
            marks.append({"camera": camera, "upto": msgspec.json.encode(now).decode()})
        if marks:
            mark = cameras.update().where(cameras.c.name == sa.bindparam("camera"))
            connection.execute(mark.values(counted=sa.bindparam("upto")), marks)
        return rows


def read(index: Index, first: int, step: int, only: Collection[str] | None = None) -> dict[str, list[Row]]:
    """Return per camera, or of `only` those, its sums over each `step` minutes from minute `first` on, in order; silent
    slots left out.

    A row holds `t` (seconds since the epoch at its start), the `minutes` in which the camera was heard, `COUNTS`, and
    the mean `threshold` and `loss_mean`.
    """
    slot = ((history.c.minute - first) // step).label("slot")
    sums = [sa.func.coalesce(sa.func.sum(history.c[name]), 0).label(name) for name in COUNTS]
    means = [sa.func.avg(history.c[name]).label(name) for name in ("threshold", "loss_mean")]
    heard = sa.func.count().label("minutes")
    query = sa.select(history.c.camera, slot, heard, *sums, *means).where(history.c.minute >= first)
    if only is not None:
        query = query.where(history.c.camera.in_(only))
    found: dict[str, list[Row]] = {}
    with index.read() as connection:
        # Slots before cameras: sorted by camera, SQLite would rather read the whole table along its primary key.
        for row in connection.execute(query.group_by(slot, history.c.camera).order_by(slot, history.c.camera)):
            fields = dict(row._mapping)
            at = 60 * (first + step * fields.pop("slot"))
            found.setdefault(fields.pop("camera"), []).append({"t": at, **fields})
    return found


def looked(index: Index, first: int, end: int, only: Collection[str] | None = None) -> list[Looked]:
    """Return what the students of every camera, or of `only` those, looked at from minute `first` on, before `end`."""
    came = sa.func.coalesce(sa.func.sum(sa.func.coalesce(history.c.taken + history.c.missed, history.c.seen)), 0)
    inferred = sa.func.coalesce(sa.func.sum(history.c.inferred), 0)
    within = (history.c.minute >= first) & (history.c.minute < end)
    query = sa.select(history.c.camera, history.c.model, inferred, came).where(within)
    if only is not None:
        query = query.where(history.c.camera.in_(only))
    with index.read() as connection:
        rows = connection.execute(query.group_by(history.c.camera, history.c.model)).all()
    return [Looked(camera, model, int(passes), int(frames)) for camera, model, passes, frames in rows]


def counts(state: CameraState) -> dict[str, int]:
    """Return the counters of a camera under the names of `COUNTS`."""
    told = {name: getattr(state, name) for name in ("seen", "inferred", "evicted", "acked")}
    look = look_at(state, 0.0)
    told |= {"dropped": sum(state.dropped.values()), "taken": int(look.taken), "missed": int(look.missed)}
    return {**told, **{name: state.forwarded.get(name, 0) for name in REASONS}}


def rise(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return what counters rose by; where `seen` fell, all of them were reset."""
    reset = now["seen"] < before["seen"]
    return {name: now[name] if reset else max(0, now[name] - before[name]) for name in COUNTS}


def _counts(text: str) -> dict[str, int] | None:
    """Return counters that were noted; None where they cannot be read, or those of an earlier version lack some."""
    try:
        found = msgspec.json.decode(text, type=dict[str, int])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return found if found.keys() >= set(COUNTS) else None
