"""The seam between the index and whoever labels: frames go out under a lease, labels come back once.

A batch is leased to one worker for `LEASE_S`. One that dies leaves its lease to run out, and the frames go to another,
or back to itself when it starts again. Labels count only for frames whose lease still stands: what a worker brings late
is dropped, so that no frame is labelled twice, and none is lost.

A frame that was leased and never came back goes out alone: if it kills its worker, it costs no other frame its labels.
After `MOST_TRIES` it is put aside.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from culling.cloud.labelling.allowance import Demand, Helping, share_out
from culling.cloud.store.frames import JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import ASKING, Index, cameras, edges, frames, leases, totals
from culling.cloud.store.lifecycle import FRESH_S, enter_labels
from culling.cloud.store.people.reviews import by_a_person
from culling.common.clock import DAY_S, Clock
from culling.common.frame import Detections

log = structlog.get_logger(__name__)

LEASE_S = 600.0
"""Far longer than a batch takes on the slowest machine: a lease that runs out belongs to a worker that died."""

MOST_TRIES = 3
"""A worker may die by accident beside a frame; one that dies of it alone, again and again, is not worth a fourth."""

MOST_WEIGHED = 512
"""Frames of a camera that are compared by worth: those of the highest loss, since each record is decoded for it."""

Worth = Callable[[StoredFrame], float]

JUDGING = JUDGES | ((frames.c.reason == "audit") & ~frames.c.held_out)
"""Frames that judge a student or measure it; those of a guard do neither."""


@dataclass(frozen=True)
class Batch:
    """Frames that were leased to one worker under `token`."""

    token: str
    frames: tuple[StoredFrame, ...]


class LabelQueue:
    """The frames that wait for the teacher, seen by `worker`. Safe to use from several threads and processes."""

    def __init__(self, index: Index, store: FrameStore, clock: Clock, per_day: int, worker: str = "local") -> None:
        self._index = index
        self._store = store
        self._clock = clock
        self._per_day = per_day
        self._worker = worker

    @property
    def open(self) -> bool:
        """Whether there is a frame that may be labelled now."""
        return bool(share_out(self.demands(), 1, self._per_day, self._clock.now()))

    def demands(self) -> list[Demand]:
        """Return what each camera that is enrolled has without labels, and had labelled today."""
        midnight = self._clock.now() // DAY_S * DAY_S
        today = (frames.c.camera == totals.c.camera) & (frames.c.labelled >= midnight)
        judging = frames.c.held_out | (frames.c.reason == "audit")
        done = sa.select(sa.func.count()).select_from(frames)
        query = sa.select(
            totals.c.camera,
            totals.c.asking_judges,
            totals.c.asking_others,
            done.where(today, judging).scalar_subquery(),
            done.where(today, ~judging).scalar_subquery(),
        ).where(totals.c.asking_judges + totals.c.asking_others > 0, totals.c.camera.in_(_served()))
        with self._index.read() as connection:
            return [Demand(*row) for row in connection.execute(query)]

    def take(self, size: int, worths: Callable[[str], Worth | None] = lambda camera: None) -> Batch | None:
        """Lease the next batch of at most `size` frames; None if there is none that may be labelled now.

        `worths` gives, for a camera, the function that says what a frame is worth; None: its loss.
        """
        now = self._clock.now()
        chosen = self._left_behind(now)
        if not chosen:
            plan = share_out(self.demands(), size, self._per_day, now)
            chosen = [frame for helping in plan for frame in self._frames(helping, now, worths)]
        token = f"{self._worker}-{secrets.token_hex(8)}"
        won = self._lease(token, [frame.id for frame in chosen], now)
        kept = tuple(frame for frame in chosen if frame.id in won)
        return Batch(token, kept) if kept else None

    def finish(
        self, token: str, labels: Mapping[str, Detections], made_for: Mapping[str, tuple[str, ...]] | None = None
    ) -> int:
        """Keep the labels of a batch, by frame, and end its lease, also of frames without labels; durable on return.

        `made_for` are their class lists, by frame, None for those in force: see `enter_labels`.
        Returns how many were kept: labels of a frame whose lease ran out are dropped, another worker has it.
        """
        with self._index.write() as connection:
            held = connection.execute(sa.select(leases.c.frame).where(leases.c.token == token)).scalars()
            mine = labels.keys() & set(held)
            open_ = frames.c.labels.is_(None) | by_a_person()  # a person may have labelled it meanwhile
            query = sa.select(frames.c.id).where(frames.c.id.in_(mine), open_)
            new = list(connection.execute(query).scalars())
            kept = enter_labels(connection, {name: labels[name] for name in new}, self._clock.now(), made_for)
            connection.execute(leases.delete().where(leases.c.token == token))
        return kept

    def resume(self) -> None:
        """End the leases that an earlier process of this worker left when it died; its tries stay counted."""
        with self._index.write() as connection:
            connection.execute(leases.update().where(self._mine()).values(until=0.0))

    def give_back(self) -> None:
        """Give up the leases of this worker as if it had never had them: it was stopped, and did not die of a frame."""
        with self._index.write() as connection:
            connection.execute(leases.delete().where(self._mine()))

    def _mine(self) -> sa.ColumnElement[bool]:
        return leases.c.token.startswith(f"{self._worker}-", autoescape=True)

    def _frames(self, helping: Helping, now: float, worths: Callable[[str], Worth | None]) -> list[StoredFrame]:
        """Return the frames of a helping: judges oldest first, so that none waits for ever; the others by worth."""
        asking = sa.and_(ASKING, ~sa.exists().where(leases.c.frame == frames.c.id, leases.c.until > now))
        if helping.judges:
            return self._store.select(helping.camera, asking & JUDGING, frames.c.received, helping.frames)
        worth = worths(helping.camera)
        fresh = asking & ~frames.c.held_out & (frames.c.reason != "audit") & (frames.c.received > now - FRESH_S)
        most = helping.frames if worth is None else MOST_WEIGHED
        found = self._store.select(helping.camera, fresh, frames.c.loss.desc(), most)
        return found if worth is None else sorted(found, key=worth, reverse=True)[: helping.frames]

    def _lease(self, token: str, names: Collection[str], now: float) -> set[str]:
        """Enter leases for those of the frames that nobody else has; return their names."""
        if not names:
            return set()
        with self._index.write() as connection:
            query = sa.select(leases.c.frame, leases.c.until, leases.c.tries).where(leases.c.frame.in_(names))
            known = {name: (until, tries) for name, until, tries in connection.execute(query)}
            done = frames.c.labels.is_not(None) | (frames.c.state != "stored")  # by another, since it was chosen
            over = set(connection.execute(sa.select(frames.c.id).where(frames.c.id.in_(names), done)).scalars())
            won = {name for name in names if name not in over and (name not in known or known[name][0] <= now)}
            connection.execute(leases.delete().where(leases.c.frame.in_(won)))
            rows = [
                {"frame": name, "token": token, "until": now + LEASE_S, "tries": known.get(name, (0.0, 0))[1] + 1}
                for name in sorted(won)
            ]
            if rows:
                connection.execute(leases.insert(), rows)
        return won

    def _left_behind(self, now: float) -> list[StoredFrame]:
        """Return one frame whose worker died, if any, the least tried first; put aside what was tried too often."""
        query = sa.select(leases.c.frame, leases.c.tries).where(leases.c.until <= now)
        with self._index.read() as connection:
            tries = dict(connection.execute(query.order_by(leases.c.tries)).all())
        if not tries:
            return []
        waiting = [frame for frame in self._store.get(list(tries)) if frame.labels is None]
        for frame in waiting:
            if tries[frame.id] >= MOST_TRIES:
                log.error("frame_never_labelled", camera=frame.camera, frame=frame.id, tries=MOST_TRIES)
                self._store.put_aside(frame)
        alive = [frame for frame in waiting if tries[frame.id] < MOST_TRIES]
        if gone := tries.keys() - {frame.id for frame in alive}:
            with self._index.write() as connection:
                connection.execute(leases.delete().where(leases.c.frame.in_(gone), leases.c.until <= now))
        return alive[:1]


def _served() -> sa.Select[tuple[str]]:
    return sa.select(cameras.c.name).join(edges, cameras.c.edge == edges.c.name).where(~edges.c.revoked)
