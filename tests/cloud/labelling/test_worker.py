from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.worker import Worker
from culling.cloud.store.frames import frame_id
from culling.cloud.store.index import leases
from culling.common.errors import ModelError, StorageError
from culling.common.frame import Detections
from culling.common.wire.codec import encode_jpeg
from support.cloud import CAMERA, CloudState, detections, hard_frame
from support.detectors import picture
from support.rounds import EDGE, add


class Brightness:
    """Sees one sure and one faint box in each frame."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def label(self, frames: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> list[Detections]:
        self.sizes.append(len(frames))
        return [detections((1, 2, 30, 40, 0.9, 0), (1, 2, 9, 9, 0.05, 1)) for _ in frames]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll()
    add(state, range(1, 13))
    yield state
    state.close()


def worker_of(cloud: CloudState, teacher: Brightness) -> Worker:
    queue = LabelQueue(cloud.index, cloud.frames, cloud.clock, 1000)
    return Worker(queue, cloud.frames, cloud.registry, lambda: teacher, 5, 0.1, lambda: None, lambda: None)


def leased(cloud: CloudState) -> int:
    with cloud.index.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(leases)).scalar_one()


def labels(cloud: CloudState, *seqs: int) -> list[Detections | None]:
    return [frame.labels for frame in cloud.frames.get([frame_id(EDGE, "boot-1", seq) for seq in seqs])]


def test_every_frame_is_labelled_in_batches(cloud: CloudState) -> None:
    teacher = Brightness()
    worker = worker_of(cloud, teacher)
    while worker.turn():
        pass
    assert teacher.sizes == [5, 5, 2]
    assert [len(found or ()) for found in labels(cloud, *range(1, 13))] == [1] * 12, "faint boxes are dropped"


def test_a_picture_that_cannot_be_used_costs_no_other_its_labels(cloud: CloudState) -> None:
    torn = encode_jpeg(picture(96, 128, 99))
    frame, jpeg = hard_frame(50, jpeg=torn[: len(torn) // 3], width=128, height=96, loss=99.0)
    cloud.frames.add(EDGE, frame, jpeg)
    path = cloud.data_dir / "frames" / CAMERA / f"{frame_id(EDGE, 'boot-1', 3)}.jpg"
    path.write_bytes(b"flipped" + path.read_bytes()[7:])
    worker = worker_of(cloud, Brightness())
    while worker.turn():
        pass
    assert len(labels(cloud, *range(1, 13), 50)) == 11, "both are put aside"
    assert None not in labels(cloud, *range(1, 13))


def test_the_teacher_is_loaded_for_the_first_batch_only(cloud: CloudState) -> None:
    loaded = []
    worker = worker_of(cloud, Brightness())
    teacher = worker.load()
    worker.load = lambda: (loaded.append(1), teacher)[1]
    while worker.turn():
        pass
    assert loaded == [1]


def test_a_teacher_that_cannot_be_used_ends_the_worker(cloud: CloudState) -> None:
    worker = worker_of(cloud, Brightness())

    def broken() -> Brightness:
        raise ModelError("no such weights")

    worker.load = broken
    with pytest.raises(ModelError):
        worker.run(threading.Event())
    assert leased(cloud) == 0, "no frame is held to blame"


def test_a_disk_that_is_full_costs_no_frame_a_try(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, stopping = worker_of(cloud, Brightness()), threading.Event()

    def full(token: str, labels: object, made_for: object) -> int:
        assert leased(cloud) == 5
        stopping.set()
        raise StorageError("the disk is full")

    monkeypatch.setattr(worker.queue, "finish", full)
    worker.run(stopping)
    assert leased(cloud) == 0
    monkeypatch.undo()
    while worker.turn():
        pass
    assert None not in labels(cloud, *range(1, 13))
