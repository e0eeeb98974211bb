"""The life of a stored frame: a round claims it, it is labelled, judged by or learnt from, and one day it expires.

    waiting ─ a round claims it ─→ considered ─ it is among the hardest ─→ kept, in that round's culled set
    held out, from the moment it is stored: labelled and judged by, or of a guard beside those; never trained on
    any of them ─ retention, quota or a full disk ─→ expired

Rows of frames that expired stay for a while, so that a late repeat is recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec
import sqlalchemy as sa

from culling.cloud.archive.judges import Archived, in_order
from culling.cloud.store.frames import JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames, rounds
from culling.cloud.store.rounds import UNFINISHED
from culling.common.clock import DAY_S, Clock
from culling.common.frame import Detections
from culling.common.wire.messages import to_wire

AUDIT_SHARE = 0.25
"""Most audit frames among those that a round labels. They are chosen apart: a miss has no loss to be ranked by."""

SEEN = 0.4
"""A class is seen in a frame from this score on, the teacher's where it has looked, else the student's."""

FULL_SHARE = 0.9
"""Share of a camera's quota above which frames that rounds are done with are removed: new ones need the rest."""


class FrameLifecycle:
    """What becomes of the frames in `store`. Safe to use from several threads and processes."""

    def __init__(self, index: Index, store: FrameStore, clock: Clock) -> None:
        self._index = index
        self._store = store
        self._clock = clock

    # A round

    def claim(self, camera: str, round_id: int) -> int:
        """Let a round consider every frame that none has, or only one that failed; return how many are its own."""
        mine = sa.and_(frames.c.camera == camera, frames.c.round == round_id)
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
        """Return the `limit` frames that judge best, of all hours and classes, of those that a round has considered."""
        found = {frame.id: frame for frame in self._judges(camera)}
        return [found[name] for name in self._archive(list(found.values()))[:limit]]

    def _judges(self, camera: str) -> list[StoredFrame]:
        return self._store.select(camera, JUDGES & frames.c.round.is_not(None), frames.c.captured.desc(), None)

    def _archive(self, judges: Sequence[StoredFrame]) -> list[str]:
        return in_order(
            [
                Archived(frame.id, frame.captured, self._store.block(frame), frame.reason == "audit", _classes(frame))
                for frame in judges
            ]
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
        """Remove what is too old, and where a camera nears its quota the oldest that a round considered.

        It also makes room for `spare_bytes` where the disk itself is short of them. Returns how many frames went, by
        (camera, "retention" | "quota" | "disk"). Frames that wait for a round, or are used by one, never go; those that
        a camera is judged by, and its latest culled set, go last, and never for the disk; of judges,
        those of an hour and class of which there are more than of others go first.
        """
        now = self._clock.now()
        gone: dict[tuple[str, str], int] = {}
        old = frames.c.received < now - retention_days * DAY_S
        for camera, counts in sorted(self._store.counts().items(), key=lambda item: -item[1].bytes):
            aged = self._names(camera, old)
            used = counts.bytes - sum(size for _, size in aged)
            spare_bytes -= counts.bytes - used
            excess = int(used - FULL_SHARE * quota_bytes)
            reason = "quota" if excess > 0 else "disk"
            crowded: list[tuple[str, int]] = []
            for name, size, dear in self._considered(camera, ~old) if max(excess, spare_bytes) > 0 else ():
                if excess <= 0 and (dear or spare_bytes <= 0):
                    break
                crowded.append((name, size))
                excess, spare_bytes = excess - size, spare_bytes - size
            for why, victims in (("retention", aged), (reason, crowded)):
                if victims:
                    self._store.remove(camera, [name for name, _ in victims])
                    gone[camera, why] = len(victims)
        with self._index.write() as connection:
            forgotten = (frames.c.state != "stored") & (frames.c.received < now - 2 * retention_days * DAY_S)
            connection.execute(frames.delete().where(forgotten))
        return gone

    def _names(self, camera: str, condition: sa.ColumnElement[bool]) -> list[tuple[str, int]]:
        query = sa.select(frames.c.id, frames.c.bytes).where(frames.c.camera == camera, frames.c.state == "stored")
        with self._index.read() as connection:
            return [tuple(row) for row in connection.execute(query.where(condition).order_by(frames.c.received))]

    def _considered(self, camera: str, condition: sa.ColumnElement[bool]) -> list[tuple[str, int, bool]]:
        """Return name, bytes and whether it is dear of each frame that rounds are done with, the dear ones last.

        Of the dear ones, those go first that are the last of the archive of judges.
        """
        latest = sa.select(sa.func.max(frames.c.kept)).where(frames.c.camera == camera).scalar_subquery()
        dear = sa.or_(JUDGES, sa.func.coalesce(frames.c.kept == latest, sa.false()))
        busy = sa.select(rounds.c.id).where(rounds.c.state.in_(UNFINISHED))
        mine = (frames.c.camera == camera) & (frames.c.state == "stored") & condition
        done = frames.c.round.is_not(None) & frames.c.round.not_in(busy)
        query = sa.select(frames.c.id, frames.c.bytes, dear).where(mine & done).order_by(dear, frames.c.received)
        with self._index.read() as connection:
            found = [(name, size, bool(kept)) for name, size, kept in connection.execute(query)]
        place = {name: -place for place, name in enumerate(self._archive(self._judges(camera)), 1)}
        return sorted(found, key=lambda row: (row[2], place.get(row[0], 0) if row[2] else 0))


def _classes(frame: StoredFrame) -> frozenset[int]:
    """Return the classes that are seen in a frame."""
    found = frame.detections if frame.labels is None else frame.labels
    return frozenset(int(label) for label in found.above(SEEN).labels)
