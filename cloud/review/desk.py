"""What labels of a camera are read from and written to, and which of its frames are in which set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from culling.cloud.evaluation.doubt import settled
from culling.cloud.evaluation.ignored import counted
from culling.cloud.settings import CloudSettings
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.frames import JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Roster
from culling.common.clock import Clock
from culling.common.frame import Detections


@dataclass(frozen=True)
class Desk:
    """One cloud's frames, labels and models."""

    settings: CloudSettings
    index: Index
    store: FrameStore
    lifecycle: FrameLifecycle
    reviews: Reviews
    registry: Registry
    clock: Clock

    def classes(self, camera: str) -> tuple[str, ...]:
        """Return the classes of a camera's labels."""
        return ClassLists(self.index).of(camera)

    def require(self, camera: str) -> None:
        """Raise InputError where there is no such camera."""
        Roster(self.index).require(camera)

    def culled(self, camera: str) -> list[StoredFrame]:
        """Return the frames of a camera's latest culled set that are still stored, in order of time."""
        newest = sa.select(sa.func.max(frames.c.kept)).where(frames.c.camera == camera).scalar_subquery()
        return self._labelled(camera, frames.c.kept == newest)

    def held_out(self, camera: str) -> list[StoredFrame]:
        """Return the labelled frames that a camera's students are judged by, in order of time."""
        return self._labelled(camera, JUDGES)

    def labelled(self, camera: str) -> list[StoredFrame]:
        """Return every labelled frame of a camera, in order of time."""
        return self._labelled(camera, sa.true())

    def _labelled(self, camera: str, condition: sa.ColumnElement[bool]) -> list[StoredFrame]:
        return self.store.select(camera, frames.c.labels.is_not(None) & condition, frames.c.captured, None)

    def settled(self, camera: str, asked: Sequence[StoredFrame]) -> list[StoredFrame]:
        """Return labelled frames of a camera as rounds read them: what its other frames speak against is doubtful,
        and so is what stands in places that the camera ignores.
        """
        return self.settler(camera)(asked)

    def settler(self, camera: str) -> Callable[[Sequence[StoredFrame]], list[StoredFrame]]:
        """Return what does that again and again, and reads the camera's labels once."""
        told = self.lifecycle.labelled(camera)
        places = {name: at for at, (name, _, _) in enumerate(told)}
        times, labels = [at for _, at, _ in told], [found for _, _, found in told]

        def settle(asked: Sequence[StoredFrame]) -> list[StoredFrame]:
            known = [frame for frame in asked if frame.labels is not None and frame.id in places]
            at = [places[frame.id] for frame in known]
            true_score = self.settings.teacher.true_score
            found = settled(times, labels, at, true_score)
            return [
                counted(replace(frame, labels=found[place]), true_score) for frame, place in zip(known, at, strict=True)
            ]

        return settle

    def true(self, labels: Detections) -> Detections:
        """Return the labels that count as true."""
        return labels.above(self.settings.teacher.true_score)


def open_desk(settings: CloudSettings, index: Index, store: FrameStore | None, clock: Clock) -> Desk:
    """Return the desk of a cloud; `store` is made where none is given."""
    frames_of = store or frame_store(settings, index, clock)
    lifecycle = FrameLifecycle(index, frames_of, clock)
    return Desk(settings, index, frames_of, lifecycle, Reviews(index), Registry(index), clock)
