"""What the stages of a round share: settings and stores, two ways to end early, and the comparison with the teacher.

A stage takes the results of those before it and returns its own as JSON; frames and weights stay on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from culling.cloud.bill.cost import StudentCost
from culling.cloud.bill.pricing import price
from culling.cloud.bill.rates import Rates
from culling.cloud.bill.work import WorkMeter
from culling.cloud.changed.kept import Changes
from culling.cloud.evaluation.doubt import settled
from culling.cloud.evaluation.ignored import compare_on, counted, outside
from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.mistakes import Mistakes, mistakes, wanted
from culling.cloud.evaluation.precision import STUDENT_FLOOR, Hardness, hardness
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.settings import CloudSettings
from culling.cloud.store.features.features import FeatureStore
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.registry import Model, ModelFiles, Registry
from culling.common.frame import Detections
from culling.common.graph import Graph, Provider, has_cuda, open_graph, see

NOT_TO_RUN = ("rejected", "revoked")
"""States of a model that an edge or a person turned down: nothing is judged against it, nobody goes back to it."""

Result = dict[str, Any]
Results = dict[str, Result]


class RoundRefusedError(Exception):
    """The round ends without a model although nothing is broken: too few frames came, for example."""


class StoppedError(Exception):
    """The round was told to stop; it resumes with the stage that it was in."""


@dataclass(frozen=True)
class Context:
    """What every stage works with; `folder` belongs to this round, `stopping()` turns true when the round must stop.

    `heart` is told of every step: a process that stays silent for `round.stall_s` is killed; `work` of every frame that
    a student looks at or learns from, for the bill. `classes` is the list in force for the camera: labels and
    detections are read by it, and the candidate finds them. `siblings` are the other cameras of its site.
    """

    settings: CloudSettings
    store: FrameStore
    lifecycle: FrameLifecycle
    files: ModelFiles
    registry: Registry
    folder: Path
    stopping: Callable[[], bool]
    heart: ProgressWriter
    rates: Rates
    changes: Changes
    features: FeatureStore
    classes: tuple[str, ...]
    siblings: tuple[str, ...] = ()
    work: WorkMeter = field(default_factory=WorkMeter)
    _told: list[tuple[str, float, Detections]] = field(default_factory=list, repr=False)

    def incumbent(self, camera: str, results: Results | None = None) -> Model:
        """Return the camera's live model, or the one that a round with these results began with, if that is renewed.

        Raises RoundRefusedError when the camera has none, or by now another than the round began with.
        """
        if (live := self.registry.live().get(camera)) is None:
            raise RoundRefusedError(f"camera {camera} has no model to start from: enroll it")
        begun = (results or {}).get("score", {}).get("model", live.model_id)
        if begun == live.model_id:
            return live
        before = self.registry.find(camera, begun)
        if before is None or before.artefact.sha256 != live.artefact.sha256:
            found = f"{live.model_id} went live during the round, which began with {begun}"
            raise RoundRefusedError(f"{found}: the next round starts from it")
        return before

    def provisional_since(self, model: Model) -> Model | None:
        """Return the model that a provisional one took the place of, so that both can be judged again.

        None if `model` is not provisional, or the one before it is gone.
        """
        if model.model_id not in (doubted := self.registry.provisional(model.camera)):
            return None
        for earlier in self.registry.models(model.camera):
            if earlier.counter < model.counter and earlier.model_id not in doubted and earlier.state not in NOT_TO_RUN:
                return earlier if self.files.keeps(earlier.artefact.sha256) else None
        return None

    def is_base(self, model: Model) -> bool:
        """Return whether a model is the student that its camera began with, perhaps under a later counter."""
        return model.artefact.sha256 == self.registry.models(model.camera)[-1].artefact.sha256

    def pictures(self, frames: Sequence[StoredFrame]) -> Iterator[tuple[StoredFrame, bytes]]:
        """Yield each frame with its JPEG, leaving out those whose file is missing or damaged.

        Raises StoppedError when the round must stop.
        """
        for frame in frames:
            if self.stopping():
                raise StoppedError
            if (jpeg := self.store.jpeg(frame)) is not None:
                yield frame, jpeg
            self.heart.advance()

    def settled(self, camera: str, frames: Sequence[StoredFrame]) -> list[StoredFrame]:
        """Return the labelled ones of a camera's frames; labels that its other frames speak against are doubtful,
        and so are those in places that the camera ignores.
        """
        if not self._told:
            self._told.extend(self.lifecycle.labelled(camera))
        told = self._told
        places = {name: at for at, (name, _, _) in enumerate(told)}
        asked = [places[frame.id] for frame in frames if frame.id in places]
        true_score = self.settings.teacher.true_score
        found = settled([at for _, at, _ in told], [labels for _, _, labels in told], asked, true_score)
        return [
            counted(replace(frame, labels=found[places[frame.id]]), true_score)
            for frame in frames
            if frame.labels is not None and frame.id in places
        ]

    def judges(self, camera: str, names: Sequence[str]) -> list[StoredFrame]:
        """Return the labelled ones of the held-out frames. Raises RoundRefusedError if the gate needs more of them."""
        frames = self.settled(camera, self.store.get(names))
        if len(frames) < self.settings.gate.least:
            raise self.too_few(frames)
        return frames

    def too_few(self, held_out: Sequence[StoredFrame]) -> RoundRefusedError:
        """Return the error that says how many labelled held-out frames the gate needs."""
        least = self.settings.gate.least
        told = f"{len(held_out)} labelled held-out frames, the gate needs {least}"
        return RoundRefusedError(f"{told}: wait, or lower gate.least")

    def graph(self, sha256: str) -> Graph:
        """Return the student with that hash, on a GPU if there is one. Raises ModelError if it cannot be loaded."""
        provider: Provider = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
        return open_graph(self.files.read(sha256), provider=provider, threads=self.settings.round.threads)

    def cost(self, model: Model) -> StudentCost | None:
        """Return what a pass of a model costs; None where that cannot be counted."""
        return price(self.registry, self.files, model, self.settings.round.frozen)

    def see(
        self, graph: Graph, cost: StudentCost | None, image: NDArray[np.uint8], size: tuple[int, int]
    ) -> Detections:
        """Return what a student of that cost finds in a picture at an input size, as `graph.see` does, of the camera's
        classes.
        """
        self.work.look(cost, size)
        return see(graph, image, size).among(graph.info.classes, self.classes)

    @property
    def interest(self) -> list[int] | None:
        """The labels of the classes of interest, None for every class."""
        return self.settings.round.labels_of_interest(self.classes)

    def compared(self, frame: StoredFrame, found: Detections) -> Compared:
        """Return a student's detections on a frame beside the teacher's labels, split into true and doubtful ones."""
        teacher = self.settings.teacher
        return compare_on(frame, found, teacher.true_score, teacher.min_score)

    def hardness(self, frame: StoredFrame, found: Detections) -> Hardness:
        """Return what share of the frame's classes a student's detections get wrong: the paper's 1 - AP."""
        return hardness(self.compared(frame, found.above(STUDENT_FLOOR)), self.interest)

    def mistakes(self, frame: StoredFrame, found: Detections) -> Mistakes:
        """Return all that a student's detections get wrong on a frame."""
        return mistakes(self.compared(frame, found.above(STUDENT_FLOOR)), self.interest)

    def counting(self, frame: StoredFrame, found: Detections) -> Detections:
        """Return the detections of a frame that count: sure enough, of interest, in no ignored place."""
        return wanted(outside(frame, found).above(STUDENT_FLOOR), self.interest)

    def objects(self, frame: StoredFrame) -> Detections:
        """Return a frame's true labels, of the classes of interest; none that stand in an ignored place."""
        return wanted(outside(frame, labels(frame)).above(self.settings.teacher.true_score), self.interest)


def labels(frame: StoredFrame) -> Detections:
    """Return the teacher's labels of a frame that has them."""
    assert frame.labels is not None, frame.id
    return frame.labels


def frame_size(frames: Sequence[StoredFrame]) -> tuple[int, int]:
    """Return the `(width, height)` that most frames have."""
    return Counter((frame.width, frame.height) for frame in frames).most_common(1)[0][0]
