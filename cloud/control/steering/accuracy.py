"""The measured accuracy of each camera's student, kept in the index for the schedule, the page and the command line.

It is computed from whatever is labelled of the student in use. The newest audits say how right it is now; once a day
they are held against earlier ones, of the whole day and of each part of it (`evaluation/drift.py`), and a round is due
where it fell by more than chance explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.evaluation.accuracy import (
    LEAST_AUDITS,
    Accuracy,
    Forwarded,
    drawn_and_labelled,
    measure,
    pooled,
)
from culling.cloud.evaluation.drift import LOOK_S, MOST_BEFORE, PARTS, Audit, Fall, Watched, watch
from culling.cloud.evaluation.ignored import compare_on
from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.tally import tally
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.index import Index, cameras, frames
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import CameraRow, Roster
from culling.common.clock import Clock

AUDITS = 60
"""Audits that an estimate looks at: at the defaults a day and a quarter of them."""
MOST_HARD = 600
"""Hard frames beside them: each stands for itself alone, so that more would change nothing but the time it takes."""

DRAWN = sa.and_(frames.c.reason == "audit", frames.c.probability.is_not(None), frames.c.labels.is_not(None))
"""Labelled audits that are known to stand for so many frames."""

log = structlog.get_logger(__name__)


class MeasuredAccuracy(msgspec.Struct, frozen=True):
    """How right `model_id` is by its newest audits (`now`), computed `at` a time, seconds since the epoch; and where it
    fell, by what was known when it was last looked at.
    """

    model_id: str
    at: float
    now: Accuracy
    watched: Watched | None


def read_measured(row: CameraRow) -> MeasuredAccuracy | None:
    """Return what was measured of the student that the camera runs; None if nothing was yet."""
    if row.accuracy is None or row.state is None:
        return None
    try:
        found = msgspec.json.decode(row.accuracy, type=MeasuredAccuracy)
    except msgspec.DecodeError:  # by another version: it is measured again within minutes
        log.warning("accuracy_unreadable", camera=row.name)
        return None
    return found if found.model_id == row.state.model_id else None


def falls(row: CameraRow) -> tuple[Fall, ...]:
    """Return where the student that the camera runs fell by more than chance explains, the largest fall first."""
    found = read_measured(row)
    return () if found is None or found.watched is None else found.watched.falls


class Measurer:
    """Measures one camera after the other. Used from one thread."""

    def __init__(self, index: Index, store: FrameStore, settings: CloudSettings, clock: Clock) -> None:
        self._index = index
        self._store = store
        self._settings = settings
        self._clock = clock
        self._measured: dict[str, float] = {}
        self._known: dict[str, tuple[str, float | None]] = {}

    def next(self) -> tuple[str, MeasuredAccuracy | None] | None:
        """Measure the camera that was measured longest ago, and keep the result; None where there is none."""
        rows = [row for row in Roster(self._index).rows() if row.state is not None and not row.revoked]
        if not rows:
            return None
        row = min(rows, key=lambda row: (self._measured.get(row.name, 0.0), row.name))
        assert row.state is not None, "others were left out"
        self._measured[row.name] = self._clock.now()  # before: one on which it breaks must not hold up the others
        state = (row.state.model_id, self._latest_label(row.name))
        if self._known.get(row.name) == state:
            return row.name, read_measured(row)
        before = read_measured(row)
        found = self.measure(row.name, row.state.model_id, before.watched if before else None)
        text = None if found is None else msgspec.json.encode(found).decode()
        if text != row.accuracy:
            with self._index.write() as connection:
                connection.execute(cameras.update().where(cameras.c.name == row.name).values(accuracy=text))
        self._known[row.name] = state  # last: what could not be written is tried again
        return row.name, found

    def _latest_label(self, camera: str) -> float | None:
        """Return when the teacher or a person last looked at a frame of a camera: until then nothing changes."""
        query = sa.select(sa.func.max(frames.c.labelled)).where(frames.c.camera == camera)
        with self._index.read() as connection:
            taught = connection.execute(query).scalar()
        return max((at for at in (taught, Reviews(self._index).last(camera)) if at is not None), default=None)

    def measure(self, camera: str, model_id: str, last: Watched | None = None) -> MeasuredAccuracy | None:
        """Return how right that student is on what the camera sees; None with too few labelled audits.

        `last` is what was known of where it fell.
        """
        newest = self._newest(camera, model_id)
        if (now := self._now(camera, model_id, newest)) is None:
            return None
        watched = last
        if last is None or newest[0].captured >= last.at + LOOK_S:
            watched = self._watch(camera, model_id, last)
        return MeasuredAccuracy(model_id, self._clock.now(), now, watched)

    def accuracy(self, camera: str, model_id: str) -> Accuracy | None:
        """As `measure`, without a look at whether it fell."""
        return self._now(camera, model_id, self._newest(camera, model_id))

    def _newest(self, camera: str, model_id: str) -> list[StoredFrame]:
        return self._store.select(camera, DRAWN & (frames.c.model_id == model_id), frames.c.captured.desc(), AUDITS)

    def _now(self, camera: str, model_id: str, newest: Sequence[StoredFrame]) -> Accuracy | None:
        if len(newest) < LEAST_AUDITS:
            return None
        newest = self._standing_for_all(camera, model_id, newest)
        since = frames.c.captured >= newest[-1].captured
        hard = (frames.c.model_id == model_id) & frames.c.labels.is_not(None) & (frames.c.reason == "hard")
        beside = self._store.select(camera, hard & since, frames.c.captured.desc(), MOST_HARD)
        own = Registry(self._index).classes(camera, model_id)
        return measure(
            [self._forwarded(frame) for frame in newest + beside], newest[0].classes, self._interest(newest[0], own)
        )

    def _standing_for_all(self, camera: str, model_id: str, drawn: Sequence[StoredFrame]) -> list[StoredFrame]:
        """Return labelled audits, newest first, with the probability of being drawn and labelled as theirs."""
        told = [(frame.captured, frame.probability) for frame in drawn if frame.probability is not None]
        never = frames.c.labelled.is_(None) & frames.c.labels.is_(None) & (frames.c.state != "purged")
        mine = (frames.c.camera == camera) & (frames.c.model_id == model_id) & (frames.c.reason == "audit")
        query = sa.select(frames.c.captured, frames.c.probability).where(
            never, mine, frames.c.probability.is_not(None), frames.c.captured >= drawn[-1].captured
        )
        with self._index.read() as connection:
            others = [(row.captured, row.probability) for row in connection.execute(query)]
        return [
            replace(frame, probability=each)
            for frame, each in zip(drawn, drawn_and_labelled(told, others), strict=True)
        ]

    def _watch(self, camera: str, model_id: str, last: Watched | None) -> Watched | None:
        mine = self._store.select(camera, DRAWN & (frames.c.model_id == model_id), frames.c.captured, None)
        earlier = DRAWN & (frames.c.model_id != model_id) & (frames.c.captured < mine[0].captured)
        other = self._store.select(camera, earlier, frames.c.captured.desc(), PARTS * MOST_BEFORE)
        other = [frame for frame in other if frame.model_id == other[0].model_id]
        registry = Registry(self._index)
        mine_of, other_of = (registry.classes(camera, some[0].model_id) if some else () for some in (mine, other))
        if set(mine_of) != set(other_of):  # what one of them does not look for says nothing of a fall
            other = []
        audits, before = ([self._audit(frame, mine_of) for frame in some] for some in (mine, other))
        found = watch(audits, before, last)
        known = {fall.part for fall in last.falls} if last else set()
        for fall in found.falls if found else ():
            if fall.part not in known:
                log.warning("student_fell", camera=camera, model=model_id, told=fall.told())
        return found

    def _interest(self, frame: StoredFrame, own: Sequence[str]) -> list[int]:
        """Return the labels that a student which finds `own` is measured by: it is not asked for what it never learnt,
        unless it has nothing in common with what the camera looks for.
        """
        wanted = self._settings.round.labels_of_interest(frame.classes)
        every = range(len(frame.classes)) if wanted is None else wanted
        return [label for label in every if frame.classes[label] in own] or list(every)

    def _audit(self, frame: StoredFrame, own: Sequence[str]) -> Audit:
        labels = self._interest(frame, own)
        assert frame.probability is not None, "only audits of known probability are selected"
        seen = tally(self._compared(frame), len(frame.classes))
        return Audit(frame.captured, frame.probability, pooled(seen, labels))

    def _forwarded(self, frame: StoredFrame) -> Forwarded:
        return Forwarded(self._compared(frame), frame.captured, frame.probability, frame.answered)

    def _compared(self, frame: StoredFrame) -> Compared:
        teacher, echo = self._settings.teacher, frame.echo
        # What stood for a frame that the profile spared the student is what its outputs had of it.
        found = frame.detections if echo is None or echo.stood is None else echo.stood
        return compare_on(frame, found, teacher.true_score, teacher.min_score)
