"""Two students of a camera on the same audits: what the one in use found there, and the one that ran beside it.

They are compared as the gate compares students, on resamples of blocks of time. The gate asks whether a candidate is
certainly better, on frames that were held out; here it is asked whether it is worse, on what the camera sees today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import sqlalchemy as sa
import structlog

from culling.cloud.archive.day import hour_of
from culling.cloud.evaluation.accuracy import BLOCK_S, LEAST_AUDITS
from culling.cloud.evaluation.comparison import Judged, Rules, compare_students
from culling.cloud.evaluation.ignored import compare_on
from culling.cloud.evaluation.tally import tally
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames
from culling.cloud.store.registry import Registry
from culling.cloud.store.waves.alike import alike
from culling.cloud.store.waves.trials import Trial
from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.process.console import counted
from culling.common.wire.messages import Beside, from_wire

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Opinion:
    """Whether a student may go on, and the sentence that says why."""

    passed: bool
    why: str


def decide(judged: Sequence[Judged], rules: Rules, wanted: int, due: bool) -> Opinion | None:
    """Return whether the student that ran beside the one in use may take its place; None while that is open.

    It may not where it is certainly worse, or worse by more than `rules.worse`. Once it is `due`, fewer than the
    `wanted` audits decide, and it may not where these are too few, or show no object.
    """
    if len(judged) < wanted and not due:
        return None
    told = f"{counted(len(judged), 'audit')} of {wanted}"
    if len(judged) < LEAST_AUDITS:
        return Opinion(False, f"{told} were labelled until its deadline: too few to judge by")
    found = compare_students(judged, rules)
    if found is None:
        return Opinion(False, f"{told} show nothing to judge by until its deadline") if due else None
    swapped = [replace(one, before=one.after, after=one.before) for one in judged]
    against = compare_students(swapped, rules)
    assert against is not None, "both have the same labels"
    figures = f"AP50 {found.gain:+.3f} ({found.before:.3f} → {found.after:.3f}, {told})"
    if against.low > 0.0:
        return Opinion(False, f"{figures}: certainly worse, by {against.low:.3f} or more")
    if found.gain < -rules.worse:
        return Opinion(False, f"{figures}: worse by more than {rules.worse:g}")
    return Opinion(True, f"{figures}: not worse")


class Comparer:
    """Reads the audits of one trial after the other. Used by one thread."""

    def __init__(self, index: Index, store: FrameStore, settings: CloudSettings) -> None:
        self._index = index
        self._store = store
        self._settings = settings
        self._registry = Registry(index)

    def judge(self, trial: Trial, due: bool) -> Opinion | None:
        """Return what becomes of the student of a trial; None while that is open."""
        wanted = self._settings.waves.audits
        if self._labelled(trial) < wanted and not due:
            return None
        judged, labels = self._judged(trial)
        gate = self._settings.gate
        return decide(judged, Rules(labels, gate.worse, gate.certainty), wanted, due)

    def _ids(self, camera: str, model_id: str | None) -> list[str]:
        """Return the ids that a student has, or had before it was renewed."""
        with self._index.read() as connection:
            return alike(connection, camera, model_id)

    def _which(self, trial: Trial) -> sa.ColumnElement[bool]:
        since = frames.c.received >= (trial.began or 0.0)
        mine = (frames.c.reason == "audit") & frames.c.model_id.in_(self._ids(trial.camera, trial.before))
        return since & mine & frames.c.shadow.is_not(None) & frames.c.labels.is_not(None)

    def _labelled(self, trial: Trial) -> int:
        mine = (frames.c.camera == trial.camera) & (frames.c.state == "stored") & self._which(trial)
        with self._index.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(frames).where(mine)).scalar_one()

    def _judged(self, trial: Trial) -> tuple[list[Judged], tuple[int, ...]]:
        audits = self._store.select(trial.camera, self._which(trial), frames.c.captured, None)
        blobs = sa.select(frames.c.id, frames.c.shadow).where(frames.c.id.in_([frame.id for frame in audits]))
        with self._index.read() as connection:
            beside = {row.id: row.shadow for row in connection.execute(blobs)}
        ids, own = self._ids(trial.camera, trial.model_id), self._registry.classes(trial.camera, trial.model_id or "")
        before = self._registry.classes(trial.camera, trial.before or "")
        judged = []
        for frame in audits:
            found = _found(beside.get(frame.id), ids, own, frame)
            if found is not None:
                judged.append(self._compared(frame, found))
        classes = audits[0].classes if audits else ()
        return judged, self._labels(classes, set(own) & set(before))

    def _labels(self, classes: Sequence[str], both: set[str]) -> tuple[int, ...]:
        """Return the labels of interest that both find."""
        interest = self._settings.round.labels_of_interest(classes)
        every = range(len(classes)) if interest is None else interest
        return tuple(label for label in every if classes[label] in both)

    def _compared(self, frame: StoredFrame, found: Detections) -> Judged:
        teacher, count = self._settings.teacher, len(frame.classes)
        before, after = (
            tally(compare_on(frame, one, teacher.true_score, teacher.min_score), count)
            for one in (frame.detections, found)
        )
        weight = 1.0 / (frame.probability or 1.0)
        return Judged(frame.id, int(frame.captured // BLOCK_S), hour_of(frame.captured), weight, before, after)


def _found(blob: bytes | None, ids: Sequence[str], own: tuple[str, ...], frame: StoredFrame) -> Detections | None:
    """Return what the model of those ids, which finds `own`, found in a frame; None where another one looked."""
    try:
        beside = msgspec.msgpack.decode(blob or b"", type=Beside)
        if beside.model_id in ids:
            return from_wire(beside.detections, len(own)).among(own, frame.classes)
    except (msgspec.MsgspecError, ProtocolError) as error:  # a damaged one judges nobody
        log.warning("shadow_unreadable", camera=frame.camera, frame=frame.id, error=str(error))
    return None
