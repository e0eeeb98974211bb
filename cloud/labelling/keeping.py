"""Keeps the teacher's features of the frames that are labelled, for rounds that distil: there is no second pass.

Only those of frames that may be trained on. What such a frame is worth is what its student got wrong there, by the
labels that the teacher gives it now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from culling.cloud.evaluation.ignored import compare_on
from culling.cloud.evaluation.mistakes import mistakes
from culling.cloud.evaluation.precision import STUDENT_FLOOR
from culling.cloud.settings import CloudSettings
from culling.cloud.store.features.features import FeatureStore, Kept
from culling.cloud.store.frames import StoredFrame
from culling.common.errors import StorageError
from culling.common.frame import Detections

if TYPE_CHECKING:
    from culling.cloud.model.distil.features import Features
    from culling.cloud.model.distil.tutor import Tutor

log = structlog.get_logger(__name__)


@runtime_checkable
class Tutored(Protocol):
    """A labeller that has features."""

    def tutor(self, classes: tuple[str, ...]) -> Tutor:
        """Return what it offers to students of `classes`."""


@dataclass(frozen=True)
class Keeping:
    """Keeps features in `store`, by the scores and the interest of the settings."""

    store: FeatureStore
    settings: CloudSettings

    @contextmanager
    def watching(self, teacher: object, classes: tuple[str, ...], frames: Sequence[StoredFrame]) -> Iterator[Seen]:
        """Yield what takes in the features of `frames`, which the teacher labels in that order while this is open.

        Raises ModelError where it has none.
        """
        seen: Seen = {}
        wanted = {at: frame for at, frame in enumerate(frames) if not frame.held_out}
        if not wanted or not isinstance(teacher, Tutored):
            yield seen
            return
        with teacher.tutor(classes).watched() as features:
            yield seen
        seen |= {frame.id: features[at] for at, frame in wanted.items() if at in features}

    def keep(self, frames: Sequence[StoredFrame], seen: Seen, labels: Mapping[str, Detections]) -> None:
        """Keep the features of labelled frames. A disk that does not take them costs no label."""
        every = [
            Kept(frame.id, frame.camera, seen[frame.id].teacher, seen[frame.id].pack(), self._worth(frame, labels))
            for frame in frames
            if frame.id in seen and frame.id in labels
        ]
        try:
            if every:
                self.store.keep(every)
        except StorageError as error:  # a round does without them, and says so
            log.error("features_not_kept", frames=len(every), error=str(error))

    def _worth(self, frame: StoredFrame, labels: Mapping[str, Detections]) -> float:
        """Return the mistake mass of what a frame's student found there."""
        teacher, found = self.settings.teacher, frame.detections.above(STUDENT_FLOOR)
        compared = compare_on(replace(frame, labels=labels[frame.id]), found, teacher.true_score, teacher.min_score)
        return mistakes(compared, self.settings.round.labels_of_interest(frame.classes)).mass


Seen = dict[str, "Features"]
"""Features by frame."""
