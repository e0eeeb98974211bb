"""`culling cloud fsck`: whether index and disk agree, and what can be repaired where they do not.

    an index that is damaged                                      reported: restore it from a backup
    a camera's totals that differ from a count of its frames      they are counted anew
    a frame whose file is missing or not what was stored          the frame is put aside, as a round would
    a frame whose detections, labels or ignored places            the same
    cannot be read
    a frame of a round that does not exist                        it waits for a round again
    a held-out frame in a culled set                              it is taken out of the set
    a frame of a camera that nobody enrolled                      reported: no round uses it
    a review of a frame that is gone, or whose labels are         it is deleted: the frame is in dispute again
    a review under another camera than its frame's                it gets that of the frame
    what the teacher said of a reviewed frame, unreadable         it is forgotten
    a lease of a worker that is gone                              it ends, as the next start would end it
    scores, changes or ignored places of a frame that is gone     they are deleted, as the teacher's features of one
    the teacher's features of a frame, unreadable or of no row    they are forgotten, and removed
    a change between students that cannot be read                 it is deleted
    a file that no row names                                      its row is written again from the file, or it is
                                                                  moved to quarantine
    a live model whose file is missing or damaged                 the one before it is live again
    any other file that a model needs, missing or damaged         reported: restore it from a backup
    a camera without exactly one live model                       reported: publish one

The service must be stopped: a frame's file is always there a moment before its row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.settings import CloudSettings
from culling.cloud.store.features.features import FeatureStore
from culling.cloud.store.folders import only_one
from culling.cloud.store.index import (
    ASKING,
    Index,
    cameras,
    changes,
    frames,
    ignores,
    leases,
    reviews,
    rounds,
    scores,
    teacher_features,
)
from culling.cloud.store.lifecycle import PASSED
from culling.cloud.store.migrations import totals
from culling.cloud.store.objects.objects import LostError, open_objects
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.people.reviews import OVERRULES
from culling.cloud.store.purge.withheld import removed_cameras
from culling.cloud.store.registry import Model, Registry
from culling.common.clock import Clock, SystemClock
from culling.common.errors import ModelError, ProtocolError, StorageError
from culling.common.wire import echo
from culling.common.wire.ignored import decode
from culling.common.wire.messages import WireDetections, from_wire

_BACKUP = "restore it from a backup"


@dataclass(frozen=True)
class Finding:
    """One disagreement: `repaired` says what was done about it, `advice` what the operator should do; else ""."""

    what: str
    wrong: str
    repaired: str = ""
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.wrong}; {self.repaired or self.advice}"


@dataclass(frozen=True)
class FsckReport:
    """What was looked at, and what was found."""

    frames: int
    models: int
    findings: tuple[Finding, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that need the operator."""
        return tuple(finding for finding in self.findings if finding.advice)


def fsck(settings: CloudSettings, repair: bool = False) -> FsckReport:
    """Compare index and disk; with `repair` repair what can be repaired. Raises StorageError while a service runs."""
    with only_one(settings.data_dir):
        try:
            index = Index(settings.store_url)
        except StorageError as error:  # what is damaged may be what opening it reads first
            return FsckReport(0, 0, (Finding("index", f"it cannot be opened ({error})", advice=_BACKUP),))
        try:
            return _Check(settings, index, repair).run()
        finally:
            index.close()


class _Check:
    def __init__(self, settings: CloudSettings, index: Index, repair: bool) -> None:
        self._index = index
        self._clock: Clock = SystemClock()
        self._store = frame_store(settings, index, self._clock)
        self._files = model_files(settings)
        self._objects = open_objects(settings.store.objects, settings.data_dir)
        self._registry = Registry(index)
        self._repair = repair

    def run(self) -> FsckReport:
        if damage := list(self._index_damage()):
            return FsckReport(0, 0, tuple(damage))
        stored = self._stored()
        needed = {row.name: self._needed(row.name) for row in self._query(sa.select(cameras.c.name))}
        with self._index.read() as connection:
            removed = removed_cameras(connection)  # what they recorded stays until it expires
        found = [
            *self._frames(stored, needed.keys() | removed),
            *self._reviews(),
            *self._leases(),
            *self._without_frames(),
            *self._unreadable(),
            *self._features(),
            *self._leftovers(),
            *self._totals(),
            *(finding for camera, models in needed.items() for finding in self._models(camera, models)),
        ]
        return FsckReport(len(stored), sum(map(len, needed.values())), tuple(found))

    def _finding(self, what: str, wrong: str, mend: str) -> Finding:
        """Return a finding that `mend`, done now or to be done with --repair, puts right."""
        return Finding(what, wrong, repaired=mend) if self._repair else Finding(what, wrong, advice=f"--repair: {mend}")

    # The index

    def _index_damage(self) -> Iterator[Finding]:
        with self._index.read() as connection:
            if connection.dialect.name == "sqlite":
                told = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
                if told != "ok":
                    yield Finding("index", f"it is damaged ({told})", advice=_BACKUP)
                    return

    def _totals(self) -> Iterator[Finding]:
        with self._index.write() as connection:
            kept, counted = totals.kept(connection), totals.counted(connection)
            if self._repair and kept != counted:
                totals.install(connection)  # with the triggers: one that is gone would let them drift again
        for camera in sorted(kept.keys() | counted.keys()):
            if (told := kept.get(camera)) != (found := counted.get(camera)):
                wrong = f"its totals say {_words(told)}, a count {_words(found)}"
                yield self._finding(f"camera {camera}", wrong, "counted anew")

    # Frames

    def _stored(self) -> list[Any]:
        return self._query(frames.select().where(frames.c.state == "stored").order_by(frames.c.camera, frames.c.id))

    def _frames(self, stored: list[Any], expected: Collection[str]) -> Iterator[Finding]:
        known = {PASSED, *(row.id for row in self._query(sa.select(rounds.c.id)))}
        for row in stored:
            what = f"frame {row.camera}/{row.id}"
            if wrong := self._damage(row):
                if self._repair:
                    self._store.put_aside(row)
                yield self._finding(what, wrong, "put aside")
                continue
            if row.camera not in expected:
                yield Finding(what, "its camera is not enrolled", advice="enroll the camera again")
            if row.round is not None and row.round not in known:
                why = "its round does not exist"
                yield self._cleared(what, row.id, why, "it waits for a round again", round=None, kept=None)
            elif row.kept is not None and (row.held_out or row.kept not in known):
                why = "it is held out, and in a culled set" if row.held_out else "its culled set does not exist"
                yield self._cleared(what, row.id, why, "taken out of the set", kept=None)

    def _damage(self, row: Any) -> str:
        try:
            if self._store.picture(row.camera, row.id, row.sha256) is None:
                return "its file is not what was stored"
        except LostError as error:
            return f"its file cannot be read: {error}"
        if not all(map(_readable, (row.detections, row.labels or row.detections))):
            return "its detections or labels cannot be read"
        try:
            decode(row.ignored)
        except (msgspec.MsgspecError, ProtocolError):
            return "its ignored places cannot be read"
        try:
            if row.echo is not None:
                echo.decode(row.echo)
        except ProtocolError:
            return "its echo cannot be read"
        return ""

    def _cleared(self, what: str, name: str, wrong: str, mend: str, **values: None) -> Finding:
        return self._changed(what, wrong, mend, frames.update().where(frames.c.id == name).values(**values))

    def _leftovers(self) -> Iterator[Finding]:
        files = list(self._store.unnamed())
        for path in files:
            mend = "settled" if self._repair else "the next start indexes it again, or moves it to quarantine"
            yield Finding(f"file {path.parent.name}/{path.name}", "no row names it", repaired=mend)
        if self._repair and files:
            done = self._store.reconcile()
            told = f"{done.reindexed} indexed again, {done.removed} removed, {done.quarantined} moved to quarantine"
            yield Finding(f"{len(files)} files", "no row names them", repaired=told)

    # What is kept beside frames

    def _reviews(self) -> Iterator[Finding]:
        theirs = (frames.c.camera.label("its"), frames.c.state, frames.c.labels)
        query = sa.select(reviews, *theirs).join(frames, frames.c.id == reviews.c.frame, isouter=True)
        for row in self._query(query.order_by(reviews.c.frame)):
            what, mine = f"review of {row.camera}/{row.frame}", reviews.c.frame == row.frame
            if row.state != "stored":
                yield self._changed(what, "its frame is gone", "deleted", reviews.delete().where(mine))
            elif row.decision in OVERRULES and row.labels is None:
                yield self._changed(what, "its labels are not there", "deleted", reviews.delete().where(mine))
            elif row.camera != row.its:
                moved = reviews.update().where(mine).values(camera=row.its)
                yield self._changed(what, f"its frame is of camera {row.its}", "entered under that camera", moved)
            elif row.teacher is not None and not _readable(row.teacher):
                without = reviews.update().where(mine).values(teacher=None)
                yield self._changed(what, "what the teacher said cannot be read", "forgotten", without)

    def _leases(self) -> Iterator[Finding]:
        """Yield what a worker that was killed left: no damage, since the next start settles it."""
        asking = sa.exists().where(frames.c.id == leases.c.frame, ASKING)
        mend = "ended" if self._repair else "the next start ends it"
        now = self._clock.now()
        for row in self._query(sa.select(leases, asking.label("asking")).order_by(leases.c.frame)):
            what, mine = f"lease of frame {row.frame}", leases.c.frame == row.frame
            if not row.asking:
                self._execute(leases.delete().where(mine))
                yield Finding(what, "its frame asks for no labels", repaired=mend)
            elif row.until > now:
                self._execute(leases.update().where(mine).values(until=now))
                yield Finding(what, "its worker is gone", repaired=mend)

    def _without_frames(self) -> Iterator[Finding]:
        """Yield what is kept of frames that are gone, or cannot be read."""
        for table, what in (
            (scores, "scores of students"),
            (changes, "changes between students"),
            (ignores, "places that people had ignored"),
            (teacher_features, "the teacher's features"),
        ):
            here = sa.exists().where(frames.c.id == table.c.frame, frames.c.state == "stored")
            if gone := self._query(sa.select(sa.func.count(table.c.frame.distinct())).where(~here))[0][0]:
                yield self._changed(what, f"{gone} of their frames are gone", "deleted", table.delete().where(~here))

    def _unreadable(self) -> Iterator[Finding]:
        for row in self._query(changes.select().order_by(changes.c.round, changes.c.frame)):
            if not (_readable(row.before) and _readable(row.after)):
                mine = (changes.c.round == row.round) & (changes.c.frame == row.frame)
                what = f"change between students of round {row.round} in frame {row.frame}"
                yield self._changed(what, "it cannot be read", "deleted", changes.delete().where(mine))

    def _features(self) -> Iterator[Finding]:
        """Yield what is wrong with the teacher's features, of which a round needs none."""
        store = FeatureStore(self._index, self._objects)
        for frame in store.missing():
            gone = teacher_features.delete().where(teacher_features.c.frame == frame)
            yield self._changed(f"the teacher's features of frame {frame}", "they cannot be read", "forgotten", gone)
        if unnamed := store.unnamed():
            if self._repair:
                self._objects.delete(unnamed)
            yield self._finding(f"{len(unnamed)} files of the teacher's features", "no row names them", "removed")

    def _changed(self, what: str, wrong: str, mend: str, change: sa.Delete | sa.Update) -> Finding:
        self._execute(change)
        return self._finding(what, wrong, mend)

    def _execute(self, change: sa.Delete | sa.Update) -> None:
        """Make a change, if anything is to be repaired."""
        if self._repair:
            with self._index.write() as connection:
                connection.execute(change)

    # Models

    def _needed(self, camera: str) -> list[Model]:
        models = self._registry.models(camera)
        return [model for model in models if model.state in ("live", "shadow", "previous") or model.origin == "base"]

    def _models(self, camera: str, needed: list[Model]) -> Iterator[Finding]:
        if (live := sum(model.state == "live" for model in needed)) != 1:
            yield Finding(f"camera {camera}", f"it has {live} live models", advice="publish one")
        for model in needed:
            what = f"model {model.model_id}"
            if not (wrong := self._model_damage(model)):
                continue
            if not self._registry.gives_way(camera, model.model_id):  # it is not in use, or there is nothing before it
                yield Finding(what, wrong, advice=_BACKUP)
                continue
            if self._repair:
                self._registry.withdraw(camera, model.model_id, "revoked")
            ended = "the model before it is live" if model.state == "live" else "it runs beside the live one no more"
            yield self._finding(what, wrong, f"withdrawn: {ended}")

    def _model_damage(self, model: Model) -> str:
        wanted = [(model.artefact.sha256, "onnx")]
        if model.artefact.weights is not None:
            wanted.append((model.artefact.weights, "safetensors"))
        try:
            for sha256, suffix in wanted:
                self._files.read(sha256, suffix)
        except ModelError as error:
            return str(error).partition("; ")[0]
        return ""

    def _query(self, query: sa.Select[Any]) -> list[Any]:
        with self._index.read() as connection:
            return list(connection.execute(query))


def _readable(blob: bytes) -> bool:
    try:
        from_wire(msgspec.msgpack.decode(blob, type=WireDetections))
    except (msgspec.MsgspecError, ProtocolError, TypeError):
        return False
    return True


def _words(counts: tuple[int, ...] | None) -> str:
    return ", ".join(
        f"{name} {count}" for name, count in zip(totals.NAMES, counts or (0,) * len(totals.NAMES), strict=True)
    )
