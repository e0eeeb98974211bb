"""A camera's day on one axis: what it saw and forwarded, how right its student was, what was found, what changed.

Everything is read for one camera and one day, by an index, and no more rows than a day has minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from culling.cloud.page import views
from culling.cloud.settings import CloudSettings
from culling.cloud.store import history
from culling.cloud.store.index import Index, rounds, swaps
from culling.cloud.store.roster import Roster
from culling.common.clock import DAY_S
from culling.common.metrics import REASONS

MOST_FRAMES = 600
"""The newest frames of a day that are looked at: at the default budget half of them."""

SURE = 0.5
"""The score from which on a box counts as detected."""

SMOOTH = 10
"""Audits that one point of the accuracy curve is the mean of: five hours of them at the defaults."""

Row = dict[str, Any]


def day(index: Index, settings: CloudSettings, name: str, now: float) -> Row:
    """Return the last 24 hours of a camera. Times are seconds since the epoch.

    `minutes` are rows of `[t, seen, taken, missed, *REASONS]`, those in which nothing was heard left out. `audits` are
    `[t, mean AP of the last audits, how many]`; `found` counts boxes in forwarded frames, `[t, class, boxes]` a frame.
    `rounds` and `swaps` are those of that time. Raises InputError where there is no such camera.
    """
    Roster(index).require(name)
    since = now - DAY_S
    slots = history.read(index, int(since // 60) + 1, 1, [name]).get(name, [])
    told = views.gallery(index, settings, name, 1e11, MOST_FRAMES, None, None)
    today = [frame for frame in reversed(told) if frame["captured"] >= since]
    return {
        "since": since,
        "until": now,
        "reasons": REASONS,
        "minutes": [[slot["t"], *(slot[key] for key in ("seen", "taken", "missed", *REASONS))] for slot in slots],
        "audits": _audits(today),
        "found": [row for frame in today for row in _found(frame)],
        "frames": len(today),
        "rounds": _rounds(index, name, since),
        "swaps": _swaps(index, name, since),
    }


def _audits(today: Sequence[Row]) -> list[list[float]]:
    judged = [
        (frame["captured"], frame["ap"]) for frame in today if frame["reason"] == "audit" and frame["ap"] is not None
    ]
    found = []
    for at in range(len(judged)):
        lately = [ap for _, ap in judged[max(0, at + 1 - SMOOTH) : at + 1]]
        found.append([judged[at][0], round(sum(lately) / len(lately), 3), len(lately)])
    return found


def _found(frame: Row) -> list[list[Any]]:
    counts = Counter(box[5] for box in frame["student"] if box[4] >= SURE)
    return [[frame["captured"], label, count] for label, count in sorted(counts.items())]


def _rounds(index: Index, name: str, since: float) -> list[Row]:
    """Return the rounds that ran within the time, the oldest first."""
    columns = [rounds.c[key] for key in ("id", "state", "trigger", "started", "finished", "reason", "model_id")]
    ended = sa.or_(rounds.c.finished.is_(None), rounds.c.finished >= since)
    query = sa.select(*columns).where(rounds.c.camera == name, ended).order_by(rounds.c.id)
    with index.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def _swaps(index: Index, name: str, since: float) -> list[Row]:
    columns = [swaps.c[key] for key in ("model_id", "outcome", "reason", "gap_ms", "at")]
    query = sa.select(*columns).where(swaps.c.camera == name, swaps.c.at >= since).order_by(swaps.c.at)
    with index.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]
