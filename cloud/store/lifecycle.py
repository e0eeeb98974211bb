"""The life of a stored frame: a round claims it, it is labelled, judged by or learnt from, and one day it expires.

    waiting ─ a round claims it ─→ considered ─ it is among the hardest ─→ kept, in that round's culled set
    held out, from the moment it is stored: labelled and judged by, never trained on
    any of them ─ retention, quota or a full disk ─→ expired

Rows of frames that expired stay for a while, so that a late repeat is recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.store.frames import ENDED, FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames, rounds
from culling.cloud.store.rounds import UNFINISHED
from culling.common.clock import DAY_S, Clock
from culling.common.frame import Detections
from culling.common.wire.messages import to_wire

AUDIT_SHARE = 0.25
"""Most audit frames among those that a round labels. They are chosen apart: a miss has no loss to be ranked by."""

FULL_SHARE = 0.9
"""Share of a camera's quota above which frames that rounds are done with are removed: new ones need the rest."""


AT_ONCE = 500
"""Most frames that are removed in one transaction: ingest waits for its end."""


class FrameLifecycle:
    """What becomes of the frames in `store`. Safe to use from several threads and processes."""

    def __init__(self, index: Index, store: FrameStore, clock: Clock) -> None:
        self._index = index
        self._store = store
        self._clock = clock

    # A round

    def claim(self, camera: str, round_id: int) -> int:
        """Let a round consider every frame that none has, or only one that failed; return how many are its own."""
        mine = sa.and_(frames.c.camera == camera, frames.c.state == "stored", frames.c.round == round_id)
        failed = sa.select(rounds.c.id).where(rounds.c.camera == camera, rounds.c.state == "failed")
        unused = frames.c.round.is_(None) | frames.c.round.in_(failed)
        with self._index.write() as connection:
            if not connection.execute(sa.select(sa.func.count()).where(mine)).scalar():
                fresh = sa.and_(frames.c.camera == camera, unused, frames.c.state == "stored")
                connection.execute(frames.update().where(fresh).values(round=round_id))
            return int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar() or 0)

    def unclaim(self, camera: str, round_id: int) -> None:
        """Let the frames of a round that cannot be judged wait for the next one."""
        mine = sa.and_(frames.c.camera == camera, frames.c.round == round_id)
        with self._index.write() as connection:
            connection.execute(frames.update().where(mine).values(round=None))

    def candidates(
        self, camera: str, round_id: int, limit: int, worth: Callable[[StoredFrame], float] | None = None
    ) -> list[StoredFrame]:
        """Return at most `limit` of a round's frames to be labelled: those worth most, and some audit frames.

        A frame is worth its loss, unless `worth` says otherwise; of equals the higher loss goes first.
        """
        mine = sa.and_(frames.c.round == round_id, ~frames.c.held_out)
        audit = frames.c.reason == "audit"
        misses = self._store.select(camera, mine & audit, frames.c.captured.desc(), int(limit * AUDIT_SHARE))
        most = limit - len(misses)
        rest = self._store.select(camera, mine & ~audit, frames.c.loss.desc(), most if worth is None else None)
        return (rest if worth is None else sorted(rest, key=worth, reverse=True)[:most]) + misses

    def held_out(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` held-out frames that a round has considered."""
        return self._store.select(
            camera, frames.c.held_out & frames.c.round.is_not(None), frames.c.captured.desc(), limit
        )

    def newest_held_out(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` held-out frames, even those that no round has considered."""
        return self._store.select(camera, frames.c.held_out, frames.c.captured.desc(), limit)

    def culled(self, camera: str, before: int, limit: int) -> list[StoredFrame]:
        """Return `limit` frames of the culled sets of earlier rounds, as good as random, others for each round."""
        shuffled = sa.func.substr(
            frames.c.id, 1 + before % 24, 8
        )  # a name is a hash: each part of it gives another order
        return self._store.select(camera, frames.c.kept < before, shuffled, limit)

    def lessons(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` frames with labels and features, held out or not, the oldest of them first."""
        known = frames.c.labels.is_not(None) & frames.c.features.is_not(None)
        return self._store.select(camera, known, frames.c.captured.desc(), limit)[::-1]

    def label(self, labels: dict[str, Detections]) -> None:
        """Keep the teacher's labels, by frame; durable on return."""
        with self._index.write() as connection:
            for name, found in labels.items():
                blob = msgspec.msgpack.encode(to_wire(found))
                connection.execute(frames.update().where(frames.c.id == name).values(labels=blob))

    def keep(self, ids: Collection[str], round_id: int) -> None:
        """Note the culled set of a round."""
        with self._index.write() as connection:
            connection.execute(frames.update().where(frames.c.id.in_(ids)).values(kept=round_id))

    # Expiry

    def expire(self, quota_bytes: int, retention_days: float, spare_bytes: int = 0) -> dict[tuple[str, str], int]:
        """Remove what is too old, and where a camera nears its quota what the earliest rounds considered.

        It also makes room for `spare_bytes` where the disk itself is short of them. Returns how many frames went, by
        (camera, "retention" | "quota" | "disk"): `AT_ONCE` or more where there may be others, so that a large clean-up
        is spread over many calls. Frames that wait for a round, or are used by one, make no room; those that a camera
        is judged by, and its latest culled set, go last, and never for the disk.
        """
        now = self._clock.now()
        aged = self._aged(now - retention_days * DAY_S)
        self._remove(aged)
        spare_bytes -= sum(victim.bytes for victim in aged)
        crowded: list[_Victim] = []
        for camera, counts in sorted(self._store.counts().items(), key=lambda item: -item[1].bytes):
            chosen = self._crowded(camera, int(counts.bytes - FULL_SHARE * quota_bytes), spare_bytes)
            spare_bytes -= sum(victim.bytes for victim in chosen)
            crowded += chosen
        for start in range(0, len(crowded), AT_ONCE):
            self._remove(crowded[start : start + AT_ONCE])
        self._forget(now - 2 * retention_days * DAY_S)
        return dict(Counter((victim.camera, victim.reason) for victim in (*aged, *crowded)))

    def _aged(self, before: float) -> list[_Victim]:
        old = (frames.c.state == "stored") & (frames.c.received < before)
        query = sa.select(frames.c.camera, frames.c.id, frames.c.bytes).where(old).order_by(frames.c.received)
        with self._index.read() as connection:
            return [_Victim(*row, "retention") for row in connection.execute(query.limit(AT_ONCE))]

    def _crowded(self, camera: str, excess: int, spare: int) -> list[_Victim]:
        """Return what has to go so that a camera has `excess` bytes less, or the disk `spare` more."""
        chosen: list[_Victim] = []
        reason = "quota" if excess > 0 else "disk"
        if max(excess, spare) > 0:
            for name, size in self._cheap(camera):
                if max(excess, spare) <= 0:
                    break
                chosen.append(_Victim(camera, name, size, reason))
                excess, spare = excess - size, spare - size
        if excess > 0 and len(chosen) < AT_ONCE:
            for name, size in self._dear(camera):
                if excess <= 0:
                    break
                chosen.append(_Victim(camera, name, size, reason))
                excess -= size
        return chosen

    def _cheap(self, camera: str) -> list[tuple[str, int]]:
        """Return name and bytes of frames that rounds are done with, except for the dear ones, in their order."""
        with self._index.read() as connection:
            latest = _latest_set(connection, camera)
            others = frames.c.kept.is_(None) | (frames.c.kept != latest)
            query = _done(camera).where(~frames.c.held_out, others).order_by(frames.c.round, frames.c.received)
            return [(row.id, row.bytes) for row in connection.execute(query.limit(AT_ONCE))]

    def _dear(self, camera: str) -> list[tuple[str, int]]:
        """Return the same of those that the camera is judged by, and of its latest culled set; the oldest first."""
        with self._index.read() as connection:
            judging = _done(camera).where(frames.c.held_out).order_by(frames.c.round, frames.c.received)
            latest = _done(camera).where(~frames.c.held_out, frames.c.kept == _latest_set(connection, camera))
            rows = [row for query in (judging, latest) for row in connection.execute(query.limit(AT_ONCE))]
        return [(row.id, row.bytes) for row in sorted(rows, key=lambda row: float(row.received))[:AT_ONCE]]

    def _remove(self, victims: Sequence[_Victim]) -> None:
        names: dict[str, list[str]] = {}
        for victim in victims:
            names.setdefault(victim.camera, []).append(victim.name)
        if names:
            self._store.remove_all(names)

    def _forget(self, before: float) -> None:
        """Delete rows of frames that are gone, and came before that time."""
        over = sa.select(frames.c.id).where(frames.c.state.in_(ENDED), frames.c.received < before).limit(AT_ONCE)
        with self._index.write() as connection:
            connection.execute(frames.delete().where(frames.c.id.in_(over)))


@dataclass(frozen=True)
class _Victim:
    camera: str
    name: str
    bytes: int
    reason: str


def _done(camera: str) -> sa.Select[Any]:
    """Return the query for a camera's stored frames that no round will use again."""
    busy = sa.select(rounds.c.id).where(rounds.c.state.in_(UNFINISHED))
    mine = (frames.c.camera == camera) & (frames.c.state == "stored")
    query = sa.select(frames.c.id, frames.c.bytes, frames.c.received)
    return query.where(mine, frames.c.round.is_not(None), frames.c.round.not_in(busy))


def _latest_set(connection: sa.Connection, camera: str) -> int:
    """Return the round whose culled set is a camera's latest, 0 for none."""
    mine = (frames.c.camera == camera) & frames.c.kept.is_not(None)
    return int(connection.execute(sa.select(sa.func.max(frames.c.kept)).where(mine)).scalar() or 0)
