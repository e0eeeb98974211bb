"""The life of a stored frame: it is labelled or passed over, a round reads it, and one day it expires.

    asking ─ the teacher labels it ─→ waiting ─ a round claims it ─→ read
       └──── a day passes without ──→ passed over
    held out, from the moment it is stored: labelled and judged by, or of a guard beside those; never trained on
    any of them ─ retention, quota or a full disk ─→ expired

A camera's pool is all that was labelled and may be trained on; every round may keep any of it. Of each of its frames
the detections of the student in use are kept, so that a round only scores what it does not know.

Rows of frames that expired stay for a while, so that a late repeat is recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.archive.judges import Archived, in_order
from culling.cloud.store.classes.lists import FIRST, Names, Reading, all_lists, detections, number
from culling.cloud.store.frames import ENDED, JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import (
    ASKING,
    Index,
    cameras,
    frames,
    history,
    rounds,
    scores,
    shelf,
    stored_among,
    totals,
)
from culling.cloud.store.people.reviews import by_a_person, keep_teachers
from culling.cloud.store.rounds import UNFINISHED
from culling.common.clock import DAY_S, Clock
from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.wire.messages import to_wire

FRESH_S = DAY_S
"""For so long a frame may be labelled: one to learn from that was not among the best of its day never will be, and what
judges a student is to say how good it is now."""

PASSED = 0
"""In place of the round that read a frame, where the teacher never labelled it: none will."""

SEEN = 0.4
"""A class is seen in a frame from this score on, the teacher's where it has looked, else the student's."""

FULL_SHARE = 0.9
"""Share of a camera's quota above which frames that rounds are done with are removed: new ones need the rest."""

CLEARED_SHARE = 0.88
"""Down to which they are removed then: to look for them costs as much for one frame as for hundreds."""

LATEST = 30
"""Published rounds whose culled sets are remembered: a frame is replaced, or done with, long before."""

AT_ONCE = 200
"""Most frames that are removed in one transaction: ingest waits for its end."""


class FrameLifecycle:
    """What becomes of the frames in `store`. Safe to use from several threads and processes."""

    def __init__(self, index: Index, store: FrameStore, clock: Clock) -> None:
        self._index = index
        self._store = store
        self._clock = clock

    # A round

    def claim(self, camera: str, round_id: int) -> int:
        """Let a round read every labelled frame that none has, or only one that failed; return how many are its own."""
        mine = sa.and_(frames.c.camera == camera, frames.c.state == "stored", frames.c.round == round_id)
        failed = sa.select(rounds.c.id).where(rounds.c.camera == camera, rounds.c.state == "failed")
        unused = frames.c.round.is_(None) | frames.c.round.in_(failed)
        with self._index.write() as connection:
            if not connection.execute(sa.select(sa.func.count()).where(mine)).scalar():
                labelled = frames.c.labels.is_not(None)
                fresh = sa.and_(frames.c.camera == camera, labelled, unused, frames.c.state == "stored")
                connection.execute(frames.update().where(fresh).values(round=round_id))
            return int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar() or 0)

    def unclaim(self, camera: str, round_id: int) -> None:
        """Let the frames of a round that cannot be judged wait for the next one."""
        mine = sa.and_(frames.c.camera == camera, frames.c.round == round_id)
        with self._index.write() as connection:
            connection.execute(frames.update().where(mine).values(round=None))

    def pool(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` frames that were labelled and may be trained on, the oldest of them first."""
        trainable = frames.c.labels.is_not(None) & ~frames.c.held_out
        return self._store.select(camera, trainable, frames.c.captured.desc(), limit)[::-1]

    def audits(self, camera: str, round_id: int) -> list[StoredFrame]:
        """Return the labelled audit frames that this round was the first to read."""
        mine = (frames.c.round == round_id) & (frames.c.reason == "audit") & ~frames.c.held_out
        return self._store.select(camera, mine & frames.c.labels.is_not(None), frames.c.captured, None)

    def held_out(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the `limit` labelled frames that judge best, of all hours and classes."""
        found = {frame.id: frame for frame in self._judges(camera)}
        return [found[name] for name in self._archive(list(found.values()))[:limit]]

    def _judges(self, camera: str) -> list[StoredFrame]:
        return self._store.select(camera, JUDGES & frames.c.labels.is_not(None), frames.c.captured.desc(), None)

    def _archive(self, judges: Sequence[StoredFrame]) -> list[str]:
        return in_order(
            [
                Archived(frame.id, frame.captured, self._store.block(frame), frame.reason == "audit", _classes(frame))
                for frame in judges
            ]
        )

    def newest_held_out(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` held-out frames, labelled or not."""
        return self._store.select(camera, frames.c.held_out, frames.c.captured.desc(), limit)

    def lessons(self, camera: str, limit: int) -> list[StoredFrame]:
        """Return the newest `limit` frames with labels and features, held out or not, the oldest of them first."""
        known = frames.c.labels.is_not(None) & frames.c.features.is_not(None)
        return self._store.select(camera, known, frames.c.captured.desc(), limit)[::-1]

    def forwarded_share(self, camera: str) -> float | None:
        """Return the share of the scored frames that a camera forwarded as hard, all minutes known; None if unknown."""
        sums = sa.select(sa.func.sum(history.c.hard), sa.func.sum(history.c.inferred)).where(history.c.camera == camera)
        with self._index.read() as connection:
            hard, scored = connection.execute(sums).one()
        return hard / scored if scored else None

    def labelled(self, camera: str) -> list[tuple[str, float, Detections]]:
        """Return name, time of capture and labels of every frame that has labels, held out or not, in order of time."""
        mine = (frames.c.camera == camera) & (frames.c.state == "stored") & frames.c.labels.is_not(None)
        columns = (frames.c.id, frames.c.camera, frames.c.captured, frames.c.labels, frames.c.class_list)
        with self._index.read() as connection:
            rows = connection.execute(sa.select(*columns).where(mine).order_by(frames.c.captured, frames.c.id)).all()
            reading = Reading(connection, rows)
        told = ((row.id, row.captured, _read(partial(reading.labels, row))) for row in rows)
        return [(name, captured, found) for name, captured, found in told if found is not None]

    def labelled_between(self, since: float, until: float) -> dict[str, int]:
        """Return how many frames the teacher saw from `since` until before `until`, in epoch seconds, by camera.

        Those that are gone by now are counted too; a camera of which it saw none has no entry.
        """
        mine = (frames.c.camera == totals.c.camera) & (frames.c.labelled >= since) & (frames.c.labelled < until)
        count = sa.select(sa.func.count()).select_from(frames).where(mine).scalar_subquery()
        with self._index.read() as connection:
            rows = connection.execute(sa.select(totals.c.camera, count)).all()
        return {camera: int(seen) for camera, seen in rows if seen}

    def label(self, labels: Mapping[str, Detections]) -> int:
        """As `enter_labels`, by the lists in force; durable on return."""
        with self._index.write() as connection:
            return enter_labels(connection, labels, self._clock.now())

    def pass_over(self) -> dict[tuple[str, str], int]:
        """Give up frames of a day ago that the teacher has not labelled, `AT_ONCE` at most.

        Returns how many, by (camera, "worth" | "judge" | "guard"): others were worth more; it was to judge or measure a
        student, and more came than the teacher could label; or it is of a guard, of which none is ever labelled.
        """
        old = frames.c.received <= self._clock.now() - FRESH_S
        named = frames.c.camera.in_(sa.select(totals.c.camera).where(totals.c.stored > 0))  # no total counts guards
        judges = JUDGES | (frames.c.reason == "audit")
        why = sa.case((frames.c.held_out & ~JUDGES, "guard"), (judges, "judge"), else_="worth")
        query = sa.select(frames.c.id, frames.c.camera, why.label("why")).where(ASKING, named, old).limit(AT_ONCE)
        with self._index.write() as connection:
            rows = connection.execute(query).all()
            mine = frames.c.id.in_([row.id for row in rows])
            connection.execute(frames.update().where(mine).values(round=PASSED))
        return dict(Counter((row.camera, row.why) for row in rows))

    def scores(self, model_id: str) -> dict[str, Detections]:
        """Return what a model found in the frames that it scored, by frame, and by the list in force for the camera."""
        query = sa.select(scores.c.frame, scores.c.detections).where(scores.c.model == model_id)
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        return {name: found for name, blob in rows if (found := _read(partial(detections, blob))) is not None}

    def score(self, model_id: str, found: dict[str, Detections]) -> None:
        """Keep what a model found, by frame; durable on return. Of a frame that is gone by then nothing is kept."""
        here = sa.select(frames.c.id).where(stored_among(list(found)))
        with self._index.write() as connection:
            rows = [
                {"frame": name, "model": model_id, "detections": msgspec.msgpack.encode(to_wire(found[name]))}
                for name in connection.execute(here).scalars()
            ]
            connection.execute(scores.delete().where(scores.c.model == model_id, scores.c.frame.in_(list(found))))
            if rows:
                connection.execute(scores.insert(), rows)

    def forget_scores(self, camera: str, but: str) -> None:
        """Delete what models other than `but` found in a camera's frames."""
        mine = sa.select(frames.c.id).where(frames.c.camera == camera)
        with self._index.write() as connection:
            connection.execute(scores.delete().where(scores.c.model != but, scores.c.frame.in_(mine)))

    def masses(self, camera: str) -> list[dict[str, float]]:
        """Return what was wrong in the culled set of each of the latest published rounds, newest first, by frame."""
        published = (rounds.c.camera == camera) & (rounds.c.state == "published")
        query = sa.select(rounds.c.stages).where(published).order_by(rounds.c.id.desc()).limit(LATEST)
        with self._index.read() as connection:
            stages = list(connection.execute(query).scalars())
        return [msgspec.json.decode(each).get("cull", {}).get("masses", {}) for each in stages]

    def of_people(self, ids: Collection[str]) -> int:
        """Return how many of those frames have a person's labels."""
        query = sa.select(sa.func.count()).select_from(frames).where(frames.c.id.in_(ids), by_a_person())
        with self._index.read() as connection:
            return int(connection.execute(query).scalar_one())

    def keep(self, ids: Collection[str], round_id: int) -> None:
        """Note the culled set of a round."""
        with self._index.write() as connection:
            connection.execute(frames.update().where(frames.c.id.in_(ids)).values(kept=round_id))

    # Expiry

    def expire(
        self, quota_bytes: int, retention_days: float, spare_bytes: int = 0, people_days: float | None = None
    ) -> dict[tuple[str, str], int]:
        """Remove what is too old, and where a camera nears its quota what the earliest rounds considered.

        It also makes room for `spare_bytes` where the disk itself is short of them. Returns how many frames went, by
        (camera, "retention" | "quota" | "disk"): `AT_ONCE` or more where there may be others, so that a large clean-up,
        or one of many cameras, is spread over many calls. Frames that wait for a round, or are used by one, make no
        room; those that a camera is judged by, and its latest culled set, go last, and never for the disk; of judges,
        those of an hour and class of which there are more than of others go first. Frames that a person labelled are
        kept for `people_days` instead, and for the quota they go last of all.
        """
        now = self._clock.now()
        aged = self._aged(now - retention_days * DAY_S, now - (people_days or retention_days) * DAY_S)
        self._remove(aged)
        spare_bytes -= sum(victim.bytes for victim in aged)
        crowded: list[_Victim] = []
        for camera, held in self._fullest():
            if len(crowded) >= AT_ONCE:
                break
            full = held > FULL_SHARE * quota_bytes
            excess = int(held - CLEARED_SHARE * quota_bytes) if full else 0
            if max(excess, spare_bytes) <= 0:
                break  # the others have less
            chosen = self._crowded(camera, excess, spare_bytes)
            spare_bytes -= sum(victim.bytes for victim in chosen)
            crowded += chosen
        for start in range(0, len(crowded), AT_ONCE):
            self._remove(crowded[start : start + AT_ONCE])
        self._forget(now - 2 * retention_days * DAY_S)
        return dict(Counter((victim.camera, victim.reason) for victim in (*aged, *crowded)))

    def _aged(self, before: float, of_people: float) -> list[_Victim]:
        old = (frames.c.state == "stored") & (frames.c.received < before)
        old &= (frames.c.received < of_people) | ~by_a_person()
        query = sa.select(frames.c.camera, frames.c.id, frames.c.bytes).where(old).order_by(frames.c.received)
        with self._index.read() as connection:
            return [_Victim(*row, "retention") for row in connection.execute(query.limit(AT_ONCE))]

    def _fullest(self) -> list[tuple[str, int]]:
        """Return the bytes of every camera that has frames, the most of them first."""
        query = sa.select(totals.c.camera, totals.c.bytes).where(totals.c.stored > 0).order_by(totals.c.bytes.desc())
        with self._index.read() as connection:
            return [(camera, int(held)) for camera, held in connection.execute(query)]

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
        """Return name and bytes of frames that rounds are done with, except for the dear ones, in their order.

        Those without labels go first: a label was paid for.
        """
        found: list[tuple[str, int]] = []
        with self._index.read() as connection:
            latest = _latest_set(connection, camera)
            others = frames.c.kept.is_(None) | (frames.c.kept != latest)
            useless = ~JUDGES | frames.c.labels.is_(None)  # a judge that was passed over judges nothing
            query = _done(camera).where(useless, others, ~by_a_person()).order_by(frames.c.round, frames.c.received)
            for labelled in (frames.c.labels.is_(None), frames.c.labels.is_not(None)):
                rows = connection.execute(query.where(labelled).limit(AT_ONCE - len(found)))
                found += [(row.id, row.bytes) for row in rows]
        return found

    def _dear(self, camera: str) -> list[tuple[str, int]]:
        """Return the same of those that the camera is judged by, of its latest culled set, and of those that a person
        labelled, which go last.

        Of the judges those go first that are the last of their archive.
        """
        place = {name: -place for place, name in enumerate(self._archive(self._judges(camera)), 1)}
        with self._index.read() as connection:
            labelled = frames.c.labels.is_not(None)
            judging = connection.execute(_done(camera).where(JUDGES, labelled, ~by_a_person())).all()
            latest = _done(camera).where(~JUDGES, ~by_a_person(), frames.c.kept == _latest_set(connection, camera))
            rows = [*sorted(judging, key=lambda row: place.get(row.id, 0)), *connection.execute(latest.limit(AT_ONCE))]
            theirs = _done(camera).where(by_a_person()).order_by(frames.c.received)
            rows += connection.execute(theirs.limit(AT_ONCE)).all()
        return [(row.id, row.bytes) for row in rows[:AT_ONCE]]

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
            names = list(connection.execute(over).scalars())
            connection.execute(frames.delete().where(frames.c.id.in_(names)))
            for table in (scores, shelf):
                connection.execute(table.delete().where(table.c.frame.in_(names)))


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
    unused = frames.c.kept.is_(None) | frames.c.kept.not_in(busy)
    query = sa.select(frames.c.id, frames.c.bytes, frames.c.received)
    return query.where(mine, frames.c.round.is_not(None), frames.c.round.not_in(busy), unused)


def _latest_set(connection: sa.Connection, camera: str) -> int:
    """Return the round whose culled set is a camera's latest, 0 for none."""
    mine = (frames.c.camera == camera) & frames.c.kept.is_not(None)
    return int(connection.execute(sa.select(sa.func.max(frames.c.kept)).where(mine)).scalar() or 0)


def enter_labels(
    connection: sa.Connection,
    labels: Mapping[str, Detections],
    now: float,
    made_for: Mapping[str, Names] | None = None,
) -> int:
    """Enter the teacher's labels, by frame; return of how many frames: one that is gone by then gets none.

    `made_for` are the class lists of the labels, by frame; None: those in force. Labels that say too little for the
    list that came into force meanwhile are dropped, and the frame asks again.
    One that a person labelled keeps that person's, and the teacher's beside them. A frame that had none before waits
    for a round from then on, whatever happened to it meanwhile.
    """
    read = sa.case((frames.c.labels.is_(None), sa.null()), else_=frames.c.round)
    blobs = {name: msgspec.msgpack.encode(to_wire(found)) for name, found in labels.items()}
    lists = _lists_of(connection, blobs, made_for)
    blobs = {name: blob for name, blob in blobs.items() if name in lists}
    overruled = keep_teachers(connection, blobs, lists)
    entered = 0
    for name, blob in blobs.items():
        given = {} if name in overruled else {"labels": blob, "class_list": lists[name], "round": read}
        here = frames.update().where(frames.c.id == name, frames.c.state == "stored")
        entered += connection.execute(here.values(labelled=now, **given)).rowcount
    return entered


def _lists_of(
    connection: sa.Connection, names: Collection[str], made_for: Mapping[str, Names] | None
) -> dict[str, int]:
    """Return the number of the list of each frame's labels, without frames whose list in force asks for more."""
    query = sa.select(frames.c.id, cameras.c.class_list).outerjoin(cameras, cameras.c.name == frames.c.camera)
    in_force = {name: chosen or FIRST for name, chosen in connection.execute(query.where(frames.c.id.in_(names)))}
    if made_for is None:
        return in_force
    known = all_lists(connection)
    enough = {name for name, chosen in in_force.items() if set(known[chosen]) <= set(made_for[name])}
    numbers = {names: number(connection, names) for names in {made_for[name] for name in enough}}
    return {name: numbers[made_for[name]] for name in enough}


def _classes(frame: StoredFrame) -> frozenset[int]:
    """Return the classes that are seen in a frame."""
    found = frame.detections if frame.labels is None else frame.labels
    return frozenset(int(label) for label in found.above(SEEN).labels)


def _read(read: Callable[[], Detections | None]) -> Detections | None:
    """Return detections that were kept; None for damaged ones, which must not stop a round."""
    try:
        return read()
    except (msgspec.MsgspecError, ProtocolError, TypeError):
        return None
