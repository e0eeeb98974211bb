"""The seam between the index and whoever labels: frames go out under a lease, labels come back once.

A batch is leased to one worker for `LEASE_S`. One that dies leaves its lease to run out, and the frames go to another,
or back to itself when it starts again. Labels count only for frames whose lease still stands: what a worker brings late
is dropped, so that no frame is labelled twice, and none is lost.

A frame that was leased and never came back goes out alone: if it kills its worker, it costs no other frame its labels.
After `MOST_TRIES` it is put aside. A try counts only where another frame was labelled since the one before it: a
teacher that fails on everything is no frame's fault, and loses none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from culling.cloud.labelling.allowance import Demand, Helping, share_out
from culling.cloud.store.frames import JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import ASKING, Index, cameras, edges, frames, leases, stored_among, totals
from culling.cloud.store.lifecycle import FRESH_S, enter_labels
from culling.cloud.store.people.reviews import by_a_person
from culling.common.clock import DAY_S, Clock
from culling.common.frame import Detections

log = structlog.get_logger(__name__)

LEASE_S = 600.0
"""Far longer than a batch takes on the slowest machine: a lease that runs out belongs to a worker that died."""

MOST_TRIES = 3
"""A worker may die by accident beside a frame; one that dies of it alone, again and again, is not worth a fourth."""

HOUR_S = 3600.0
"""Frames that came within an hour, as those of a window do when it closes, are as good as each other to judge by."""

LATER_HOURS = 1_000_000
"""More than any frames lie apart: as if frames on which two students are compared had come so much later."""

MOST_WEIGHED = 512
"""Frames of a camera that are compared by worth: those of the highest loss, since each record is decoded for it."""

Worth = Callable[[StoredFrame], float]

JUDGING = JUDGES | ((frames.c.reason == "audit") & ~frames.c.held_out)
"""Frames that judge a student or measure it; those of a guard do neither."""


@dataclass(frozen=True)
class LeasedBatch:
    """Frames that were leased to one worker under `token`."""

    token: str
    frames: tuple[StoredFrame, ...]


class LabelQueue:
    """The frames that wait for the teacher, seen by `worker`. Safe to use from several threads and processes."""

    def __init__(self, index: Index, store: FrameStore, clock: Clock, per_day: int, worker: str) -> None:
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

    def take(self, size: int, worths: Callable[[str], Worth | None] = lambda camera: None) -> LeasedBatch | None:
        """Lease the next batch of at most `size` frames; None if there is none that may be labelled now.

        `worths` gives, for a camera, the function that says what a frame is worth; None: its loss.
        """
        while chosen := self._choose(size, worths):
            token = f"{self._worker}-{secrets.token_hex(8)}"
            won = self._lease(token, [frame.id for frame in chosen], self._clock.now())
            if kept := tuple(frame for frame in chosen if frame.id in won):
                return LeasedBatch(token, kept)
            # another worker was faster, and has them now: there may be more
        return None

    def finish(
        self,
        token: str,
        labels: Mapping[str, Detections],
        made_for: Mapping[str, tuple[str, ...]] | None = None,
        answered: Mapping[str, bool] | None = None,
    ) -> int:
        """Keep the labels of a batch, by frame, and end its lease, also of frames without labels; durable on return.

        `made_for` are their class lists, by frame, None for those in force: see `enter_labels`. Labels of frames that
        were `answered` had been made for an edge that asked, which had them in time for its record, or had not.
        Returns how many were kept: labels of a frame whose lease ran out are dropped, another worker has it.
        """
        told = answered or {}
        with self._index.write() as connection:
            held = connection.execute(sa.select(leases.c.frame).where(leases.c.token == token)).scalars()
            mine = labels.keys() & set(held)
            open_ = frames.c.labels.is_(None) | by_a_person()  # a person may have labelled it meanwhile
            query = sa.select(frames.c.id).where(frames.c.id.in_(mine), open_)
            new = list(connection.execute(query).scalars())
            kept = enter_labels(connection, {name: labels[name] for name in new}, self._clock.now(), made_for)
            for in_time in set(told.values()):
                those = [name for name in mine & told.keys() if told[name] == in_time]
                connection.execute(frames.update().where(frames.c.id.in_(those)).values(answered=in_time))
            connection.execute(leases.delete().where(leases.c.token == token))
        return kept

    def resume(self) -> None:
        """End the leases that an earlier process of this worker left when it died; its tries stay counted."""
        now = self._clock.now()
        with self._index.write() as connection:
            connection.execute(leases.update().where(self._mine(), leases.c.until > now).values(until=now))

    def give_back(self) -> None:
        """Give up the leases of this worker as if it had never had them: it was stopped, and did not die of a frame."""
        with self._index.write() as connection:
            connection.execute(leases.delete().where(self._mine()))

    def _mine(self) -> sa.ColumnElement[bool]:
        return leases.c.token.startswith(f"{self._worker}-", autoescape=True)

    def _choose(self, size: int, worths: Callable[[str], Worth | None]) -> list[StoredFrame]:
        """Return what this worker would take now."""
        now = self._clock.now()
        left = self._left_behind(now)
        if chosen := [frame for frame, counts in left if counts][:1]:
            return chosen
        # where nothing was labelled since the last death, a single frame is enough to try the teacher
        plan = share_out(self.demands(), size, self._per_day, now)
        waiting = [frame for helping in plan for frame in self._frames(helping, now, worths)]
        return waiting if not left else waiting[:1] or [left[0][0]]

    def _frames(self, helping: Helping, now: float, worths: Callable[[str], Worth | None]) -> list[StoredFrame]:
        """Return the frames of a helping: the others by worth, judges by chance, those of the newest hour first.

        Before them go those on which two students are compared: somebody waits for these.

        Their names are hashes, by which they are chosen within the hour: nothing that is in a picture decides whether
        it judges.
        """
        leased = sa.exists().where(leases.c.frame == frames.c.id)  # or was, by a worker that died
        # Not as columns, by which SQLite would rather take an index of every frame than that of those that ask.
        fresh, held_out = frames.c.received - (now - FRESH_S) > 0, sa.func.coalesce(frames.c.held_out, sa.false())
        asking = sa.and_(ASKING, ~leased, fresh)
        if helping.judges:
            newest = sa.cast(frames.c.received / HOUR_S, sa.Integer)  # of equals `select` goes by name
            compared = sa.case((frames.c.shadow.is_not(None), LATER_HOURS), else_=0)
            return self._store.select(helping.camera, asking & JUDGING, (compared + newest).desc(), helping.frames)
        worth = worths(helping.camera)
        others = asking & ~held_out & (frames.c.reason != "audit")
        most = helping.frames if worth is None else MOST_WEIGHED
        found = self._store.select(helping.camera, others, frames.c.loss.desc(), most)
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
            labelled = _last_labelled(connection) if known else 0.0
            before = {name: tries - (labelled < until) for name, (until, tries) in known.items()}
            rows = [
                {"frame": name, "token": token, "until": now + LEASE_S, "tries": before.get(name, 0) + 1}
                for name in sorted(won)
            ]
            if rows:
                connection.execute(leases.insert(), rows)
        return won

    def _left_behind(self, now: float) -> list[tuple[StoredFrame, bool]]:
        """Return the frames whose worker died, each with whether another try of it would count.

        The least tried come first, of those the ones that were tried longest ago; what was tried too often is put
        aside, and what does not ask for labels any more is forgotten.
        """
        query = sa.select(leases.c.frame, leases.c.until, leases.c.tries).where(leases.c.until <= now)
        with self._index.read() as connection:
            tried = {row.frame: row for row in connection.execute(query.order_by(leases.c.tries, leases.c.until))}
            if not tried:
                return []
            asking = sa.select(frames.c.id).where(
                stored_among(tried), frames.c.labels.is_(None), frames.c.round.is_(None)
            )
            names = set(connection.execute(asking).scalars())
            labelled = _last_labelled(connection)
        waiting = self._store.get([name for name in tried if name in names])
        for frame in waiting:
            if tried[frame.id].tries >= MOST_TRIES:
                log.error("frame_never_labelled", camera=frame.camera, frame=frame.id, tries=MOST_TRIES)
                self._store.put_aside(frame)
        alive = [frame for frame in waiting if tried[frame.id].tries < MOST_TRIES]
        if gone := tried.keys() - {frame.id for frame in alive}:
            with self._index.write() as connection:
                connection.execute(leases.delete().where(leases.c.frame.in_(gone), leases.c.until <= now))
        return [(frame, labelled >= tried[frame.id].until) for frame in alive]


def _last_labelled(connection: sa.Connection) -> float:
    """Return when the teacher last labelled a frame of any camera, 0 if it never has."""
    newest = sa.select(sa.func.max(frames.c.labelled)).where(frames.c.camera == totals.c.camera).scalar_subquery()
    return connection.execute(sa.select(sa.func.max(newest)).select_from(totals)).scalar() or 0.0


def _served() -> sa.Select[tuple[str]]:
    return sa.select(cameras.c.name).join(edges, cameras.c.edge == edges.c.name).where(~edges.c.revoked)
