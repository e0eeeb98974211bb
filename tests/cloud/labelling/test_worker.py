from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from culling.cloud.labelling.escalated import Escalated
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.worker import ASKED_S, Worker
from culling.cloud.store.index import leases
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError, StorageError
from culling.common.frame import Detections
from culling.common.traces.spans import Traces
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import from_wire
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections, hard_frame
from support.collector import collector
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


def worker_of(cloud: CloudState, teacher: Brightness, later: float = 0.0) -> Worker:
    queue = LabelQueue(cloud.index, cloud.frames, cloud.clock, 1_000_000, "one")

    def now() -> float:
        return cloud.clock.now() + later

    return Worker(queue, cloud.frames, cloud.registry, lambda: teacher, 5, 0.1, nothing, nothing, now=now)


def nothing() -> None:
    """Nobody looks at whether it lives."""


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


def test_each_labelled_frame_has_a_span_in_its_trace(cloud: CloudState) -> None:
    path = cloud.data_dir / "frames" / CAMERA / f"{frame_id(EDGE, 'boot-1', 3)}.jpg"
    path.write_bytes(b"flipped" + path.read_bytes()[7:])
    worker = worker_of(cloud, Brightness())
    times = iter(range(1_800_000_000, 1_800_000_100))
    with collector() as collecting:
        worker.traces = Traces(collecting.endpoint, 1.0, "cloud")
        worker.now = lambda: float(next(times))
        assert worker.turn()
        worker.traces.close(20)
    labelled = {
        frame_id(EDGE, "boot-1", seq)
        for seq, found in zip(range(1, 13), labels(cloud, *range(1, 13)), strict=True)
        if found
    }
    assert {span.trace for span in collecting.spans} == labelled
    for span in collecting.spans:
        assert (span.name, span.parent) == ("cloud.label", span.trace[:16])
        assert span.began == 1_800_000_000 < span.ended
        assert (span.about["culling.camera"], span.about["culling.boxes"]) == (CAMERA, 1)


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


class Failing(Brightness):
    """Raises for every frame, or for those whose mean is `bad`."""

    def __init__(self, bad: int | None = None) -> None:
        super().__init__()
        self.bad = bad

    def label(self, frames: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> list[Detections]:
        if self.bad is None or any(round(float(frame.mean())) == self.bad for frame in frames):
            raise RuntimeError("CUDA error: device-side assert triggered\nand a hundred lines")
        return super().label(frames, classes)


def run_again_and_again(cloud: CloudState, teacher: Brightness, times: int) -> list[str]:
    """Start a worker, in place of the one that ended, so often; return why each ended that did."""
    told = []
    for _ in range(times):
        worker = worker_of(cloud, teacher)
        worker.queue.resume()
        try:
            while worker.turn():
                pass
        except ModelError as error:
            told.append(str(error))
    return told


def test_a_teacher_that_fails_on_every_frame_is_named_and_costs_none_of_them(cloud: CloudState) -> None:
    told = run_again_and_again(cloud, Failing(), 40)
    assert len(told) == 40
    assert "the teacher failed on 5 frames (RuntimeError: CUDA error: device-side assert triggered)" in told[0]
    assert "hundred lines" not in told[0]
    assert labels(cloud, *range(1, 13)) == [None] * 12
    assert run_again_and_again(cloud, Brightness(), 1) == []
    assert None not in labels(cloud, *range(1, 13))


def test_a_single_frame_on_which_the_teacher_fails_is_given_up_and_the_others_are_labelled(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(50, jpeg=encode_jpeg(np.full((96, 128, 3), 7, np.uint8)), width=128, height=96, loss=99.0)
    cloud.frames.add(EDGE, frame, jpeg)
    told = run_again_and_again(cloud, Failing(bad=7), 2)
    assert len(told) == 2
    for seq in range(60, 66):  # others go on coming
        add(cloud, range(seq, seq + 1))
        run_again_and_again(cloud, Failing(bad=7), 1)
    assert None not in labels(cloud, *range(1, 13), *range(60, 66))
    assert labels(cloud, 50) == [], "it is put aside"


def test_a_teacher_that_tells_of_too_few_frames_ends_the_worker(cloud: CloudState) -> None:
    class Short(Brightness):
        def label(self, frames: Sequence[NDArray[np.uint8]], classes: tuple[str, ...]) -> list[Detections]:
            return super().label(frames, classes)[1:]

    [told] = run_again_and_again(cloud, Short(), 1)
    assert "told of 4 frames when it was shown 5" in told


def test_a_disk_that_is_full_costs_no_frame_a_try(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, stopping = worker_of(cloud, Brightness()), threading.Event()

    def full(*told: object) -> int:
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


# Edges that wait


def answering(cloud: CloudState, teacher: Brightness, later: float = 0.0) -> tuple[Worker, Escalated]:
    worker, escalated = worker_of(cloud, teacher, later), Escalated(cloud.index, cloud.clock)
    worker.escalated, worker.name = escalated, "big"
    return worker, escalated


def ask(escalated: Escalated, seq: int, jpeg: bytes) -> int:
    told = hashlib.sha256(jpeg).hexdigest()
    name = escalated.ask(CAMERA, "boot-1", seq, told, jpeg, CLASSES, 60.0)
    assert name is not None
    return name


def test_an_edge_that_waits_goes_before_every_batch(cloud: CloudState) -> None:
    teacher = Brightness()
    worker, escalated = answering(cloud, teacher)
    assert worker.turn()
    names = [ask(escalated, seq, encode_jpeg(picture(96, 128, seq))) for seq in (1, 2)]
    assert worker.turn()
    assert teacher.sizes == [5, 2]
    answers = escalated.answered(names)
    assert [from_wire(one.detections).scores.tolist() for one in answers.values() if one.detections] == [
        pytest.approx([0.9])
    ] * 2, "faint boxes are dropped"
    assert {one.teacher for one in answers.values()} == {"big"}
    while worker.turn():
        pass
    assert None not in labels(cloud, *range(1, 13))


def test_where_more_is_asked_than_can_be_answered_labels_take_turns(cloud: CloudState) -> None:
    teacher = Brightness()
    worker, escalated = answering(cloud, teacher)
    seqs = count(100)
    for _ in range(6):
        for _ in range(6):  # more than a batch
            ask(escalated, next(seqs), encode_jpeg(picture(96, 128, next(seqs))))
        assert worker.turn()
    assert teacher.sizes == [5, 5, 5, 5, 5, 2], "the last batch of labels is what was left of twelve"
    assert None not in labels(cloud, *range(1, 13))
    assert worker.turn()
    assert teacher.sizes[-1] == 5
    assert worker.turn(), "no frame waits, but an edge does"
    assert worker.turn()
    assert len(teacher.sizes) == 8


def test_a_frame_on_which_the_teacher_answered_is_not_looked_at_again(cloud: CloudState) -> None:
    teacher = Brightness()
    worker, escalated = answering(cloud, teacher)
    ask(escalated, 1, encode_jpeg(picture(96, 128, 3)))
    while worker.turn():
        pass
    assert sum(teacher.sizes) == 12, "one answer and eleven others"
    assert [len(found or ()) for found in labels(cloud, *range(1, 13))] == [1] * 12
    frames = cloud.frames.get([frame_id(EDGE, "boot-1", seq) for seq in range(1, 13)])
    assert [frame.sha256 for frame in frames if frame.answered] == [
        hashlib.sha256(encode_jpeg(picture(96, 128, 3))).hexdigest()
    ]


def test_what_was_answered_before_a_worker_started_may_be_of_another_file(cloud: CloudState) -> None:
    teacher = Brightness()
    before, escalated = answering(cloud, teacher)
    ask(escalated, 1, encode_jpeg(picture(96, 128, 3)))
    assert before.turn()
    after, _ = answering(cloud, teacher, later=1.0)
    while after.turn():
        pass
    assert sum(teacher.sizes) == 1 + 12


def test_a_picture_that_cannot_be_decoded_costs_no_other_edge_its_answer(cloud: CloudState) -> None:
    worker, escalated = answering(cloud, Brightness())
    whole = encode_jpeg(picture(96, 128, 99))
    torn, good = ask(escalated, 1, whole[: len(whole) // 3]), ask(escalated, 2, whole)
    assert worker.turn()
    answers = escalated.answered([torn, good])
    assert (answers[torn].detections, answers[torn].reason) == (None, "unreadable")
    assert answers[good].detections is not None


def test_a_worker_that_answers_has_its_teacher_before_it_is_asked(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    cloud.enroll()
    worker, _ = answering(cloud, Brightness())
    assert not worker.turn()
    assert worker.teacher is not None
    cloud.close()


def test_a_worker_at_rest_is_woken_by_an_edge_that_waits(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    cloud.enroll()
    worker, escalated = answering(cloud, Brightness())
    rests: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout or 0.0)
            if len(rests) == 3:
                ask(escalated, 1, encode_jpeg(picture(96, 128, 1)))
            return False

    worker._rest(Stopping())
    assert rests == [ASKED_S] * 3
    cloud.close()
