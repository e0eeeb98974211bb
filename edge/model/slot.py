"""The slot of one camera's student: the model in use, the next one, and the one to fall back on.

Three threads meet here. The main loop takes the student before a frame and reports its result; it never waits, not
even for the disk. The forwarder brings offers and files. The builder makes models ready and writes the record, each
step before it takes effect. The rules are in `hotswap.py` and `probation.py`.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from culling.common.clock import Clock
from culling.common.errors import CullingError, ManifestError, ModelError, StorageError
from culling.common.frame import Detections
from culling.common.scaler import input_size
from culling.common.wire.codec import jpeg_size
from culling.common.wire.manifest import Manifest, Trust
from culling.common.wire.messages import SwapReport
from culling.edge.model import hotswap
from culling.edge.model.builder import Builder
from culling.edge.model.hotswap import Outcome, SlotRecord, State
from culling.edge.model.probation import NOTHING, ModelComparison, Probation, ProbationRules
from culling.edge.model.shadow import Keep, Shadow, look, side_by_side
from culling.edge.model.shelf import Shelf, read
from culling.edge.model.student import Picture, Student
from culling.edge.model.vetting import NotVettedError, vet

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Package:
    """The model an agent was installed with."""

    manifest: Manifest
    model: Path


class _Superseded(Exception):  # noqa: N818 - not an error: a newer offer has replaced the model being made
    pass


class ModelSlot:
    """One camera's models, kept in `folder`; without an `initial` one the camera waits for a model from the cloud.

    `on_error` is called with "storage" or "not-vetted" for a failure that is no model's fault; the model in use goes
    on. `vet` tries a file in a confined process, and is a parameter so that other tests need not start one. `together`
    returns how many frames of all cameras a model may ever run at once, on inputs of a size. `on_shadow` is called with
    what became of each frame that a model beside the one in use was to look at (`shadow.py`).
    """

    def __init__(
        self,
        camera: str,
        folder: Path,
        initial: Package | None,
        builder: Builder,
        clock: Clock,
        rules: ProbationRules | None = None,
        on_error: Callable[[str], None] = lambda reason: None,
        vet: Callable[[Path, list[tuple[int, int]]], None] = vet,
        together: Callable[[Manifest, tuple[int, int]], int] = lambda manifest, size: 1,
        on_shadow: Callable[[str], None] = lambda outcome: None,
        rng: random.Random | None = None,
    ) -> None:
        self.camera = camera
        self.record = SlotRecord()
        self._shelf = Shelf(folder)
        self._initial = initial
        self._builder = builder
        self._clock = clock
        self._rules = rules or ProbationRules()
        self._on_error = on_error
        self._vet = vet
        self._together = together
        self._on_shadow = on_shadow
        self._rng = rng or random.Random()
        self._shadow: Shadow | None = None
        self._coming: Manifest | None = None
        self._lock = threading.Lock()
        self._making: set[str] = set()
        self._frame_sizes: frozenset[tuple[int, int]] = frozenset()
        self._current: Student | None = None
        self._ready: Student | None = None
        self._previous: Student | None = None
        self._probation: Probation | None = None
        self._comparisons: queue.SimpleQueue[tuple[Probation, ModelComparison]] = queue.SimpleQueue()
        self._last_result: float | None = None
        self._gap_ms = 0.0

    # Start

    def boot(self) -> None:
        """Load the record, and start the best model that works. Raises the initial model's error if none does."""
        record = hotswap.wake(self._shelf.record(self._complain), self.camera, self._clock.now())
        broken = set()
        for model_id in hotswap.boot_order(record):
            try:
                self._current = None if model_id is None and self._initial is None else self._load(model_id)
                break
            except (ModelError, StorageError) as error:
                if model_id is None:
                    raise
                log.warning("student_start_failed", camera=self.camera, model_id=model_id, error=str(error))
                # These bytes were proven here before: any other failure, of a disk or a GPU, may pass.
                if isinstance(error, ManifestError) or isinstance(error.__cause__, FileNotFoundError):
                    broken.add(model_id)
        self.record = hotswap.fall_back(record, broken, self.camera, self._clock.now())
        self._decide(lambda record: record)
        self._sweep()
        if (candidate := self.record.candidate) and self.path(candidate.model_id, "onnx").exists():
            self.stage(candidate.model_id)

    # The main loop

    def current(self) -> Student | None:
        """Return the student in use; None until a model has worked here."""
        return self._current

    def between_frames(self, now: float) -> Student | None:
        """Return the student for the next frame, after switching to a new one if it is warm; `now` is monotonic.

        None until a model has worked here.
        """
        if (ready := self._ready) is None:
            return self._current
        self._ready = None
        self._previous, self._current = self._current, ready
        on_probation = partial(hotswap.advance, state=State.PROBATION)
        self._builder.submit(partial(self._decide, on_probation, of=ready.model_id))
        log.info("student_switched", camera=self.camera, model_id=ready.model_id)
        # The very first model has none to be compared with; its own errors still count.
        self._probation = Probation(self._rules if self._previous else replace(self._rules, samples=0), now)
        return ready

    @property
    def on_probation(self) -> bool:
        """Whether the student in use has yet to prove itself, for which it needs every frame."""
        return self._probation is not None

    def may_run(self, manifest: Manifest, size: tuple[int, int]) -> bool:
        """Return whether this camera runs that model, or is about to, on inputs of `size`, `(height, width)`.

        A camera that has shown no frame yet may have any size. Safe from any thread.
        """
        current, sizes = self._current, self._frame_sizes
        known = (current.manifest if current else None, self._coming)
        if not any(one and (one.sha256, one.scale) == (manifest.sha256, manifest.scale) for one in known):
            return False
        return not sizes or size in {input_size(*each, manifest.scale, manifest.long_side) for each in sizes}

    def stands(self, now: float) -> None:
        """Note that the last result also stands for a frame that was skipped."""
        self._last_result = now

    def observe(self, frame: Picture, found: Detections, now: float) -> None:
        """Note the current student's result on `frame`, which may end a probation, even in a rollback."""
        self._frame_sizes |= {(frame.width, frame.height)}
        if (shadow := self._shadow) is not None and (current := self._current) is not None:
            shadow.observe(frame, current)
        last, self._last_result = self._last_result, now
        if (probation := self._probation) is None:
            return
        if not probation.frames:
            self._gap_ms = 1000 * (now - last) if last is not None else 0.0
        probation.saw(found)
        if probation.wants_sample(now):
            self._sample(probation, frame)
        self._settle(probation, now)

    def look_beside(self, frame: Picture, keep: Keep) -> None:
        """Have the model beside the one in use, if there is one, look at a frame that may become an audit, and `keep`
        what it finds. Never waits; safe from any thread.
        """
        if (shadow := self._shadow) is not None and (current := self._current) is not None:
            shadow.look(frame, current, keep)

    @property
    def shadow(self) -> tuple[str, int]:
        """The model that runs beside the one in use, or is about to, "" for none, and on how many frames it ran."""
        running = self._shadow
        return hotswap.shadow(self.record) or "", running.ran if running is not None else 0

    def failed(self, error: ModelError, now: float) -> None:
        """Note that the current student failed on a frame, which may end a probation in a rollback."""
        if (probation := self._probation) is not None:
            probation.failed(error)
            self._settle(probation, now)

    # The forwarder

    def trust(self, keys: Mapping[str, Ed25519PublicKey]) -> Trust:
        """Return what a manifest is checked against for this camera."""
        return trust(self.record, self._initial, keys, self.camera)

    def offer(self, manifest: Manifest, share: float | None = None) -> bool:
        """Accept a verified manifest; return whether to download its model now, and then `stage` it.

        With a `share` it is to run beside the one in use on that share of the frames, with 0 not that any more.
        Raises ManifestError("busy"), and StorageError when the manifest cannot be written.
        """
        with self._lock:
            if self.record.live is None and self._initial and self._initial.manifest.model_id == manifest.model_id:
                return False  # it is the installed model, and in use
            if share == 0:
                record = hotswap.withdraw(self.record, manifest.model_id, self.camera, self._clock.now())
            else:
                record = hotswap.offer(self.record, manifest, self._clock.now(), share)
            candidate = record.candidate
            mine = candidate is not None and candidate.model_id == manifest.model_id
            wanted = mine and candidate is not None and candidate.state in hotswap.REPLACEABLE
            if wanted and manifest.model_id in self._making:  # its file is complete, and the builder is at work on it
                wanted = False
                record = _downloading(record)
            if wanted:
                self._coming = manifest
                self._shelf.put_manifest(manifest)
            self._shelf.write(record)
            self.record = record
            self._heed()
        self._sweep()
        return wanted

    def _heed(self) -> None:
        """Have the model beside the one in use take over, or end, if that was said by the last offer."""
        if (shadow := self._shadow) is None or shadow.student.model_id == hotswap.shadow(self.record):
            return
        shadow.end()
        self._shadow = None
        if self._is_candidate(shadow.student.model_id):
            self._builder.submit(partial(self._take_over, shadow.student))

    def downloading(self) -> None:
        """Note that the candidate's download has started."""
        with self._lock:
            record = _downloading(self.record)
            if record != self.record:
                self._shelf.write(record)
                self.record = record

    def stage(self, model_id: str) -> None:
        """Have the builder prepare the candidate, whose file is complete."""
        with self._lock:
            if model_id in self._making or (self._is_candidate(model_id) and not self._replaceable):
                return  # it came twice: over the line, and from a person
            self._making.add(model_id)
        self._builder.submit(partial(self._make, model_id))

    def reject(self, model_id: str, reason: str) -> None:
        """Reject the candidate, because its file is not the declared one."""
        self._conclude(model_id, "rejected", reason, 0.0)

    def reports(self) -> tuple[SwapReport, ...]:
        """Return the reports that the cloud has not received yet, oldest first."""
        return self.record.reports

    def reported(self, report: SwapReport) -> None:
        """Forget a report that was sent."""
        self._decide(partial(hotswap.reported, report=report))

    def path(self, model_id: str, kind: str) -> Path:
        """Return the path of a model's `onnx`, `part`, `delta` or `manifest`."""
        return self._shelf.path(model_id, kind)

    def files(self) -> dict[str, Path]:
        """Return the models that are here, by their SHA-256: the one in use, the one before it, the one installed."""
        found = self._shelf.files((self.record.live, self.record.previous))
        if self._initial is not None and self._initial.model.exists():
            found.setdefault(self._initial.manifest.sha256, self._initial.model)
        return found

    # The builder

    def _make(self, model_id: str) -> None:
        problem: CullingError | None = None
        try:
            self._prepare(model_id)
        except _Superseded:
            log.info("student_superseded", camera=self.camera, model_id=model_id)
        except CullingError as error:
            problem = error
        except Exception as error:  # a defect of ours: the model waits for another try, of which it has three
            problem = NotVettedError(f"model {model_id} could not be made ready: {error!r}")
            raise
        finally:
            self._made(model_id, problem)

    def _made(self, model_id: str, problem: CullingError | None) -> None:
        with self._lock:
            self._making.discard(model_id)
        if isinstance(problem, (StorageError, NotVettedError)):
            self._abandon(model_id, problem)
        elif problem is not None:  # the fault of the model, or of its golden frames
            log.warning("student_rejected", camera=self.camera, model_id=model_id, error=str(problem))
            self._conclude(model_id, "rejected", str(problem), 0.0)

    def _prepare(self, model_id: str) -> None:
        self._step(model_id, hotswap.attempt)
        manifest = self._coming = self._shelf.manifest(model_id)
        golden = {jpeg_size(golden.jpeg) for golden in manifest.golden}
        frame_sizes = self._frame_sizes | golden
        sizes = {input_size(*size, manifest.scale, manifest.long_side) for size in frame_sizes} or {(64, 64)}
        self._vet(self.path(model_id, "onnx"), sorted(sizes))
        self._step(model_id, partial(hotswap.advance, state=State.STAGED))
        self._step(model_id, partial(hotswap.advance, state=State.WARMING))
        student = self._load(model_id)
        for size in {student.input_size(*frame_size) for frame_size in frame_sizes}:
            student.warm(size, self._together(manifest, size), self._builder.await_lull)
        self._take_place(student)

    def _take_place(self, student: Student) -> None:
        """Let a warm model take over, or stand beside the one in use, as the last offer said."""
        model_id, alone = student.model_id, self._current is None
        self._step(model_id, partial(hotswap.take_place, alone=alone), partial(self._stand, student))

    def _stand(self, student: Student) -> None:
        candidate = self.record.candidate
        if candidate is None or candidate.share is None or candidate.state is not State.SHADOW:
            self._ready = student
            return
        self._shadow = Shadow(
            student,
            candidate.share,
            self._builder,
            self._clock,
            self._rules,
            self._rng,
            self._on_shadow,
            failed=partial(self._shadow_failed, student.model_id),
            settled=partial(self._decide, hotswap.settle, student.model_id),
        )
        log.info("shadow_began", camera=self.camera, model_id=student.model_id, share=candidate.share)

    def _take_over(self, student: Student) -> None:
        """Let the model that ran beside the one in use take its place."""
        try:
            with suppress(_Superseded):
                self._step(student.model_id, partial(hotswap.advance, state=State.SWITCHED))
                self._ready = student
        except StorageError as error:
            self._abandon(student.model_id, error)

    def _shadow_failed(self, model_id: str, reason: str) -> None:
        log.warning("shadow_failed", camera=self.camera, model_id=model_id, reason=reason)
        self._shadow = None
        self._conclude(model_id, "rejected", reason, 0.0)

    def _step(
        self, model_id: str, change: Callable[[SlotRecord], SlotRecord], then: Callable[[], None] = lambda: None
    ) -> None:
        with self._lock:
            if not self._is_candidate(model_id):
                raise _Superseded
            record = change(self.record)
            self._shelf.write(record)
            self.record = record
            then()

    def _compare(self, probation: Probation, frame: Picture, students: list[Student]) -> None:
        try:
            looks = [look(self._builder, self._clock, student, frame) for student in students]
            comparison = side_by_side(*looks)
        except (ModelError, av.FFmpegError, ValueError):
            comparison = NOTHING  # the new model's own failures are counted on the camera's frames
        self._comparisons.put((probation, comparison))

    def _load(self, model_id: str | None) -> Student:
        if model_id is None:
            assert self._initial is not None
            manifest, path = self._initial.manifest, self._initial.model
        else:
            manifest, path = self._shelf.manifest(model_id), self.path(model_id, "onnx")
        return self._builder.build(manifest, read(path))

    # Probation

    def _sample(self, probation: Probation, frame: Picture) -> None:
        students = [student for student in (self._previous, self._current) if student is not None]
        self._builder.submit(partial(self._compare, probation, frame, students))

    def _settle(self, probation: Probation, now: float) -> None:
        while not self._comparisons.empty():
            of, comparison = self._comparisons.get_nowait()
            if of is probation:
                probation.compared(comparison)
        if (verdict := probation.verdict(now)) is None:
            return
        assert self._current is not None, "a probation is that of the student in use"
        model_id = self._current.model_id
        outcome: Outcome = "live" if verdict.passed else "rolled-back"
        log.info("probation_ended", camera=self.camera, model_id=model_id, outcome=outcome, reason=verdict.reason)
        if not verdict.passed:
            self._current = self._previous
        self._probation = self._previous = None
        self._builder.submit(partial(self._conclude, model_id, outcome, verdict.reason, self._gap_ms))

    # The record

    def _conclude(self, model_id: str, outcome: Outcome, reason: str, gap_ms: float) -> None:
        def change(record: SlotRecord) -> SlotRecord:
            return hotswap.conclude(record, outcome, reason, self.camera, self._clock.now(), gap_ms)

        self._decide(change, of=model_id)
        self._sweep()

    def _decide(self, change: Callable[[SlotRecord], SlotRecord], of: str | None = None) -> None:
        """Change the record even if it cannot be written, because what it says has already happened.

        A change `of` a model is made only while that is the candidate: a newer one may have replaced it.
        """
        with self._lock:
            if of is not None and not self._is_candidate(of):
                return
            self.record = change(self.record)
            try:
                self._shelf.write(self.record)
            except StorageError as error:
                self._complain(error)

    def _abandon(self, model_id: str, error: StorageError | NotVettedError) -> None:
        """Forget the candidate, which got no verdict, until it is offered again or until the next boot."""
        self._complain(error)
        with self._lock:
            if self._is_candidate(model_id):
                self.record = hotswap.abandon(self.record)

    @property
    def _replaceable(self) -> bool:
        return self.record.candidate is not None and self.record.candidate.state in hotswap.REPLACEABLE

    def _is_candidate(self, model_id: str) -> bool:
        return self.record.candidate is not None and self.record.candidate.model_id == model_id

    def _sweep(self) -> None:
        """Remove the files of models that are neither live, previous nor candidate."""
        with self._lock:
            candidate = self.record.candidate
            named = candidate.model_id if candidate else None
            kept = {self.record.live, self.record.previous, named, *self._making}
            try:
                self._shelf.sweep(kept)
            except StorageError as error:
                self._complain(error)

    def _complain(self, error: StorageError | NotVettedError) -> None:
        storage = isinstance(error, StorageError)
        event = "model_storage_failed" if storage else "model_vetting_interrupted"
        log.warning(event, camera=self.camera, error=str(error))
        self._on_error("storage" if storage else "not-vetted")


def trust(record: SlotRecord, initial: Package | None, keys: Mapping[str, Ed25519PublicKey], camera: str) -> Trust:
    """Return what a manifest is checked against for a camera with that record and installed model."""
    accepted = record.counter, record.sha256
    if initial and initial.manifest.counter > record.counter:
        accepted = initial.manifest.counter, initial.manifest.sha256
    return Trust(keys, camera, *accepted)


def _downloading(record: SlotRecord) -> SlotRecord:
    """Return `record` with its candidate downloading, if that was only offered so far."""
    if record.candidate is None or record.candidate.state is not State.OFFERED:
        return record
    return hotswap.advance(record, State.DOWNLOADING)
