"""A cloud with labelled frames on which teacher and student differ, and what people say of them is read from."""

from __future__ import annotations

from pathlib import Path

from culling.cloud.review.desk import Desk, open_desk
from culling.cloud.store.frames import StoredFrame
from culling.common.frame import Detections
from support.cloud import CAMERA, CloudState, detections
from support.stored import add, everything

PERSON = (1, 1, 20, 20, 0.9, 0)
"""What the student sees in every frame."""
CAR = (30, 10, 60, 40, 0.8, 2)
DOUBTFUL = (40, 30, 50, 40, 0.2, 0)


def reviewing(folder: Path, count: int = 10, **sections: dict[str, object]) -> tuple[CloudState, Desk]:
    """Return a cloud whose frames 1 to `count` the teacher labelled: it sees a car beside the person in odd ones."""
    cloud = CloudState(folder, **sections)
    cloud.enroll()
    add(cloud, *range(1, count + 1))
    cloud.lifecycle.label({frame.id: teachers(frame) for frame in everything(cloud)})
    cloud.lifecycle.claim(CAMERA, cloud.rounds.start(CAMERA, "manual", 1.0).id)
    cloud.rounds.end(1, "refused", {}, "no better", 2.0)
    return cloud, desk_of(cloud)


def teachers(frame: StoredFrame) -> Detections:
    """Return what the teacher says of a frame; a frame's loss is its number."""
    return detections(PERSON, CAR, DOUBTFUL) if frame.loss % 2 else detections(PERSON, DOUBTFUL)


def desk_of(cloud: CloudState) -> Desk:
    return open_desk(cloud.settings, cloud.index, cloud.frames, cloud.clock)


def number(frame: StoredFrame) -> int:
    return int(frame.loss)


def by_number(cloud: CloudState) -> dict[int, StoredFrame]:
    return {number(frame): frame for frame in everything(cloud)}


def rows(found: Detections | None) -> list[tuple[float, ...]]:
    """Return detections as rows of x1, y1, x2, y2, score, label."""
    assert found is not None
    table = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [(*box, round(score, 4), label) for box, score, label in table]
