"""What the resident worker does: take a batch, have the teacher look at it, keep the labels; wait where nothing waits.

The teacher is loaded for the first batch and stays. A picture that cannot be decoded is put aside, and costs nobody
else's labels. A teacher that raises ends the worker, which is started again after a while: what its library or the GPU
is left with is unknown, and the queue finds out whether a frame is to blame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from culling.cloud.labelling.escalated import Escalated, Known
from culling.cloud.labelling.keeping import Keeping, Seen
from culling.cloud.labelling.queue import LabelQueue, LeasedBatch, Worth
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.registry import Registry
from culling.common.errors import CullingError, ModelError, ProtocolError, StorageError
from culling.common.frame import Detections
from culling.common.selection.features import read
from culling.common.wire.codec import decode_jpeg

if TYPE_CHECKING:
    from culling.common.traces.spans import About, Traces

log = structlog.get_logger(__name__)

IDLE_S = 1.0
"""How long the worker waits where nothing waits for it: a frame is labelled within a second or two of its arrival."""

ASKED_S = 0.1
"""How long an edge that waits for an answer may go unseen, while nothing else is done."""

HINDERED_S = 5.0
"""How long it waits where it could not read or write: a full disk does not empty within milliseconds."""

CURE = "try it with `culling teacher check`; nothing is lost, and it is tried again"


class Labeller(Protocol):
    """What labels frames `(H, W, 3)` RGB."""

    def label(self, frames: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> list[Detections]:
        """Return what is seen of `classes` in each frame, in that order, boxes in the frame's pixels."""


@dataclass
class Worker:
    """Labels what `queue` has, `size` frames at a time, without boxes below `floor`.

    `beat` is called for each turn, `well` for each batch that was labelled. `now` is seconds since the epoch, for the
    spans that go to `traces`. With `escalated`, what edges wait for goes before the next batch, answered by `name`, and
    the teacher is loaded before anything is asked; where more is asked than it can answer, answers and batches take
    turns, or audits, waves and rounds would wait for good. With `keeping`, the teacher's features are kept, too.
    """

    queue: LabelQueue
    store: FrameStore
    registry: Registry
    load: Callable[[], Labeller]
    size: int
    floor: float
    beat: Callable[[], None]
    well: Callable[[], None]
    teacher: Labeller | None = None
    traces: Traces | None = None
    now: Callable[[], float] = time.time
    escalated: Escalated | None = None
    name: str = ""
    keeping: Keeping | None = None

    def __post_init__(self) -> None:
        self._since = self.now()  # what was answered before may be another file's of the same kind
        self._labels_next = False

    def run(self, stopping: threading.Event) -> None:
        """Label until `stopping` is set. Raises ModelError when the teacher cannot be used, or fails."""
        self.queue.resume()
        while not stopping.is_set():
            self.beat()
            try:
                worked = self.turn()
            except StorageError as error:  # the disk may recover
                log.error("labelling_hindered", error=str(error))
                with suppress(StorageError):  # the frames are not to blame; if this fails too, their lease runs out
                    self.queue.give_back()
                stopping.wait(HINDERED_S)
                continue
            if not worked:
                self._rest(stopping)

    def _rest(self, stopping: threading.Event) -> None:
        """Wait where nothing waits, but for no edge that does."""
        if self.escalated is None:
            stopping.wait(IDLE_S)
            return
        for _ in range(round(IDLE_S / ASKED_S)):
            if stopping.wait(ASKED_S) or self.escalated.waiting:
                return

    def turn(self) -> bool:
        """Answer who waits, or label one batch; return whether there is anything to do."""
        if self.teacher is None:
            if self.escalated is None and not self.queue.open:
                return False
            self.teacher = self.load()  # before any frame is leased, which it must not be held against
            self.beat()
        asked = self.escalated is not None and self.escalated.waiting
        if self.escalated is not None and asked and not self._labels_next:
            self._answer(self.teacher, self.escalated)
            self._labels_next = True
            return True
        self._labels_next = False
        if (batch := self.queue.take(self.size, self._worth)) is None:
            return asked
        made_for = {frame.id: frame.classes for frame in batch.frames}
        began = self.now()
        known = self._known(batch)
        labels, seen = self._labels(self.teacher, batch, known)
        answered = {name: answer.in_time for name, answer in known.items()}
        kept = self.queue.finish(batch.token, labels, made_for, answered)
        if self.keeping is not None:
            self.keeping.keep(batch.frames, seen, labels)
        self.well()
        if self.traces is not None:
            for frame in batch.frames:
                if frame.id in labels:
                    about: About = {"camera": frame.camera, "boxes": len(labels[frame.id]), "batch": len(batch.frames)}
                    self.traces.span("cloud.label", frame.id, began, self.now(), about)
        log.info("frames_labelled", frames=kept, cameras=len({frame.camera for frame in batch.frames}))
        return True

    def _answer(self, teacher: Labeller, escalated: Escalated) -> None:
        """Look at what edges wait for, as many at once as are labelled at once."""
        questions = escalated.take(self.size)
        answers: dict[int, Detections | None] = {}
        by_list: dict[tuple[str, ...], dict[int, NDArray[np.uint8]]] = {}
        for one in questions:
            try:
                by_list.setdefault(one.classes, {})[one.id] = decode_jpeg(one.jpeg)
            except ProtocolError:
                answers[one.id] = None
        for classes, images in by_list.items():
            found = _look(teacher, list(images.values()), classes)
            answers |= {name: seen.above(self.floor) for name, seen in zip(images, found, strict=True)}
        escalated.answer(answers, self.name)
        self.well()
        log.debug("escalations_answered", frames=len(answers))

    def _labels(
        self, teacher: Labeller, batch: LeasedBatch, known: Mapping[str, Known]
    ) -> tuple[dict[str, Detections], Seen]:
        """Return the labels of a batch, those that are `known` already too, and the teacher's features to be kept."""
        by_list: dict[tuple[str, ...], dict[str, NDArray[np.uint8]]] = {}
        labels, seen = {name: answer.found for name, answer in known.items()}, Seen()
        frames = {frame.id: frame for frame in batch.frames}
        for frame in batch.frames:
            if frame.id in labels or (jpeg := self.store.jpeg(frame)) is None:
                continue
            try:
                by_list.setdefault(frame.classes, {})[frame.id] = decode_jpeg(jpeg)
            except ProtocolError:  # only its header was checked on arrival
                self.store.put_aside(frame)
        for classes, images in by_list.items():
            with self._watching(teacher, classes, [frames[name] for name in images]) as features:
                found = _look(teacher, list(images.values()), classes)
            labels |= {name: one.above(self.floor) for name, one in zip(images, found, strict=True)}
            seen |= features
        return labels, seen

    def _watching(
        self, teacher: Labeller, classes: tuple[str, ...], frames: Sequence[StoredFrame]
    ) -> AbstractContextManager[Seen]:
        return nullcontext(Seen()) if self.keeping is None else self.keeping.watching(teacher, classes, frames)

    def _known(self, batch: LeasedBatch) -> dict[str, Known]:
        """Return what this teacher has answered an edge already, by frame."""
        answers: dict[str, Known] = {}
        for classes in {frame.classes for frame in batch.frames} if self.escalated is not None else ():
            assert self.escalated is not None
            same = {frame.id: frame.sha256 for frame in batch.frames if frame.classes == classes}
            known = self.escalated.known(set(same.values()), classes, self.name, self._since)
            answers |= {name: known[sha256] for name, sha256 in same.items() if sha256 in known}
        return answers

    def _worth(self, camera: str) -> Worth | None:
        """Return the live model's ranker as a function of a frame (0 for unreadable features), None if it has none."""
        live = self.registry.live().get(camera)
        ranker = live.artefact.ranker if live else None
        if ranker is None or not ranker.known:
            return None

        def worth(frame: StoredFrame) -> float:
            values = read(frame.features)
            return 0.0 if values is None else float(ranker.predict(values))

        return worth


def _look(teacher: Labeller, images: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> list[Detections]:
    """Return what the teacher sees in each picture. Raises ModelError where it raises, or says too little."""
    try:
        found = teacher.label(images, classes)
    except CullingError:
        raise
    except Exception as error:  # any package's teacher may raise anything
        log.exception("teacher_failed", frames=len(images))
        told = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ModelError(f"the teacher failed on {len(images)} frames ({told}): see the log; {CURE}") from error
    if len(found) != len(images):
        raise ModelError(f"the teacher told of {len(found)} frames when it was shown {len(images)}; {CURE}")
    return found
