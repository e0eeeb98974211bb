"""The measured accuracy of each camera's student, kept in the index for the schedule, the page and the command line.

It is computed from whatever is labelled of the student in use. The newest audits say how right it is now, its first
ones how right it was when it came; a round is due when the difference is more than chance explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.evaluation.accuracy import LEAST_AUDITS, Accuracy, Estimate, Forwarded, measure
from culling.cloud.evaluation.matching import compare
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.index import Index, cameras, frames
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.roster import CameraRow, Roster
from culling.common.clock import Clock
from culling.common.frame import CLASSES

AUDITS = 60
"""Audits that an estimate looks at: at the defaults a day and a quarter of them."""
MOST_HARD = 600
"""Hard frames beside them: each stands for itself alone, so that more would change nothing but the time it takes."""

log = structlog.get_logger(__name__)


class Measured(msgspec.Struct, frozen=True):
    """How right `model_id` is by its newest audits (`now`), computed `at` a time, seconds since the epoch; and its AP50
    by its first ones, None as long as these are the same.
    """

    model_id: str
    at: float
    now: Accuracy
    first: Estimate | None


def read_measured(row: CameraRow) -> Measured | None:
    """Return what was measured of the student that the camera runs; None if nothing was yet."""
    if row.accuracy is None or row.state is None:
        return None
    try:
        found = msgspec.json.decode(row.accuracy, type=Measured)
    except msgspec.DecodeError:  # by another version: it is measured again within minutes
        log.warning("accuracy_unreadable", camera=row.name)
        return None
    return found if found.model_id == row.state.model_id else None


def now_and_first(row: CameraRow) -> tuple[Estimate | None, Estimate | None]:
    """Return the AP50 of the student that the camera runs, as measured now and when it came; None where it was not."""
    found = read_measured(row)
    return (None, None) if found is None else (found.now.ap50, found.first)


class Measurer:
    """Measures one camera after the other. Used from one thread."""

    def __init__(self, index: Index, store: FrameStore, settings: CloudSettings, clock: Clock) -> None:
        self._index = index
        self._store = store
        self._settings = settings
        self._clock = clock
        self._measured: dict[str, float] = {}
        self._known: dict[str, tuple[str, float | None]] = {}

    def next(self) -> tuple[str, Measured | None] | None:
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
        found = self.measure(row.name, row.state.model_id)
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

    def measure(self, camera: str, model_id: str) -> Measured | None:
        """Return how right that student is on what the camera sees; None with too few labelled audits."""
        mine = (frames.c.model_id == model_id) & frames.c.labels.is_not(None)
        drawn = mine & (frames.c.reason == "audit") & frames.c.probability.is_not(None)
        hard = mine & (frames.c.reason == "hard")
        newest = self._store.select(camera, drawn, frames.c.captured.desc(), AUDITS)
        if len(newest) < LEAST_AUDITS:
            return None
        since = frames.c.captured >= newest[-1].captured
        now = self._measure(newest + self._store.select(camera, hard & since, frames.c.captured.desc(), MOST_HARD))
        if now is None:
            return None
        oldest = self._store.select(camera, drawn, frames.c.captured, AUDITS)
        first = None
        if {frame.id for frame in oldest} != {frame.id for frame in newest}:
            until = frames.c.captured <= oldest[-1].captured
            then = self._measure(oldest + self._store.select(camera, hard & until, frames.c.captured, MOST_HARD))
            first = then.ap50 if then else None
        return Measured(model_id, self._clock.now(), now, first)

    def _measure(self, labelled: Sequence[StoredFrame]) -> Accuracy | None:
        return measure([self._forwarded(frame) for frame in labelled], CLASSES, self._settings.round.labels_of_interest)

    def _forwarded(self, frame: StoredFrame) -> Forwarded:
        assert frame.labels is not None, "only labelled frames are selected"
        teacher = self._settings.teacher
        compared = compare(frame.detections, frame.labels, teacher.true_score, teacher.min_score)
        return Forwarded(compared, frame.captured, frame.probability)
