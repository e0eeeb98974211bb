from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.labelling.allowance import Demand
from culling.cloud.labelling.queue import HOUR_S, LEASE_S, MOST_TRIES, LabelQueue, LeasedBatch
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.index import leases
from culling.cloud.store.lifecycle import FRESH_S
from culling.common.clock import DAY_S
from culling.common.frame import Detections
from culling.common.wire.messages import Beside, to_wire
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections, held_out
from support.rounds import add

SEEN = detections((1, 2, 30, 40, 0.9, 0))
PLAIN = [seq for seq in range(1, 60) if not held_out(seq)]
JUDGES = [seq for seq in range(1, 60) if held_out(seq)]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, FakeClock(20_000 * DAY_S + DAY_S / 2))
    state.enroll(CAMERA, "yard")
    yield state
    state.close()


def queue_of(cloud: CloudState, per_day: int = 1000) -> LabelQueue:
    return LabelQueue(cloud.index, cloud.frames, cloud.clock, per_day, "one")


def store(cloud: CloudState, *seqs: int, **changes: object) -> None:
    for seq in seqs:
        add(cloud, range(seq, seq + 1), **{"loss": float(seq), **changes})


def taken(batch: LeasedBatch | None) -> list[StoredFrame]:
    assert batch is not None
    return list(batch.frames)


def labels_of(cloud: CloudState, batch: LeasedBatch) -> list[Detections | None]:
    return [frame.labels for frame in cloud.frames.get([frame.id for frame in batch.frames])]


def test_judges_go_first_then_the_candidates_of_the_highest_loss(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:6], *JUDGES[:2])
    store(cloud, PLAIN[6], reason="audit")
    frames = taken(queue_of(cloud).take(6))
    assert [frame.held_out or frame.reason == "audit" for frame in frames] == [True] * 3 + [False] * 3
    assert [frame.loss for frame in frames[3:]] == sorted(map(float, PLAIN[:6]), reverse=True)[:3]


def test_frames_on_which_two_students_are_compared_go_before_all_others_that_judge(cloud: CloudState) -> None:
    beside = Beside("gate-2", to_wire(SEEN))
    store(cloud, PLAIN[0], reason="audit", shadow=beside)
    cloud.clock.advance(3 * HOUR_S)  # type: ignore[attr-defined]
    store(cloud, *JUDGES[:5])
    store(cloud, *PLAIN[1:6], reason="audit")
    first, *others = taken(queue_of(cloud).take(6))
    assert first.loss == float(PLAIN[0])
    assert len(others) == 5


def test_worth_decides_where_there_is_one(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:6])
    frames = taken(queue_of(cloud).take(2, lambda camera: lambda frame: -frame.loss))
    assert [frame.loss for frame in frames] == [float(seq) for seq in PLAIN[:2]]


def test_no_frame_is_leased_twice(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:6])
    queue = queue_of(cloud)
    first, second = taken(queue.take(4)), taken(queue.take(4))
    assert len(first) == 4
    assert len(second) == 2
    assert not {frame.id for frame in first} & {frame.id for frame in second}
    assert queue.take(4) is None


def test_workers_side_by_side_label_every_frame_and_none_of_them_twice(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:20], *JUDGES[:4])
    names: list[str] = []

    def work(worker: str) -> int:
        queue, kept = LabelQueue(cloud.index, cloud.frames, cloud.clock, 1000, worker), 0
        while (batch := queue.take(3)) is not None:
            names.extend(frame.id for frame in batch.frames)
            kept += queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames})
        return kept

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, ("one", "two", "three"))) == 24
    assert len(names) == len(set(names)) == 24


def test_labels_are_kept_and_counted_once(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:3], JUDGES[0])
    queue = queue_of(cloud)
    batch = queue.take(8)
    assert batch is not None
    labels = {frame.id: SEEN for frame in batch.frames}
    assert queue.finish(batch.token, labels) == 4
    assert queue.finish(batch.token, labels) == 0
    assert all(found is not None and np.array_equal(found.boxes, SEEN.boxes) for found in labels_of(cloud, batch))
    store(cloud, PLAIN[4])
    assert queue.demands() == [Demand(CAMERA, 0, 1, 1, 3)]
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.waiting, counts.held_out, counts.asking) == (3, 1, 1)


def test_the_frames_of_a_worker_that_died_go_to_another_one_by_one_and_its_late_labels_are_dropped(
    cloud: CloudState,
) -> None:
    store(cloud, *PLAIN[:2])
    queue = queue_of(cloud)
    dead = queue.take(8)
    assert dead is not None
    cloud.clock.advance(LEASE_S)
    names = set()
    for _ in range(2):
        other = queue.take(8)
        assert other is not None
        (frame,) = other.frames
        assert queue.finish(dead.token, {frame.id: Detections.empty()}) == 0
        assert queue.finish(other.token, {frame.id: SEEN}) == 1
        assert all(found is not None and len(found) == 1 for found in labels_of(cloud, other))
        names.add(frame.id)
    assert names == {frame.id for frame in dead.frames}
    assert queue.take(8) is None


def test_a_worker_that_starts_again_goes_on_with_what_it_had(cloud: CloudState) -> None:
    store(cloud, PLAIN[0])
    queue, other = queue_of(cloud), LabelQueue(cloud.index, cloud.frames, cloud.clock, 1000, "other")
    for seq in PLAIN[1 : MOST_TRIES + 1]:
        assert [frame.loss for frame in taken(queue.take(8))] == [PLAIN[0]]
        other.resume()
        assert queue.take(8) is None, "that of another worker stands"
        cloud.clock.advance(1)
        queue.resume()
        label_another(cloud, queue, seq)
    assert queue.take(8) is None, "the tries stay counted"


def test_a_worker_that_was_stopped_has_not_tried(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:4])
    queue, other = queue_of(cloud), LabelQueue(cloud.index, cloud.frames, cloud.clock, 1000, "other")
    assert len(taken(other.take(1))) == 1
    for _ in range(MOST_TRIES + 1):
        assert len(taken(queue.take(8))) == 3, "all at once, and none of another's"
        queue.give_back()


def test_labels_that_come_late_count_if_nobody_else_took_the_frames(cloud: CloudState) -> None:
    store(cloud, PLAIN[0])
    queue = queue_of(cloud)
    batch = queue.take(8)
    assert batch is not None
    cloud.clock.advance(LEASE_S + 1)
    assert queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames}) == 1


def test_a_frame_that_comes_without_labels_waits_again(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:2])
    queue = queue_of(cloud)
    batch = queue.take(8)
    assert batch is not None
    assert queue.finish(batch.token, {batch.frames[0].id: SEEN}) == 1
    assert [frame.id for frame in taken(queue.take(8))] == [batch.frames[1].id]


def label_another(cloud: CloudState, queue: LabelQueue, seq: int) -> None:
    """Have a frame come, and be labelled alone, since the one before it cost a worker its life."""
    cloud.clock.advance(1)
    store(cloud, seq)
    batch = queue.take(8)
    assert [frame.loss for frame in taken(batch)] == [seq]
    assert batch is not None
    queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames})


def work(cloud: CloudState, queue: LabelQueue, deadly: Callable[[StoredFrame], bool], turns: int) -> list[int]:
    """Label batches, of which some frames cost their worker its life; return how large they were."""
    sizes = []
    for _ in range(turns):
        cloud.clock.advance(1)
        if (batch := queue.take(8)) is None:
            break
        sizes.append(len(batch.frames))
        if any(map(deadly, batch.frames)):
            queue.resume()
        else:
            queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames})
    return sizes


def test_a_frame_of_which_every_worker_dies_is_put_aside_and_no_other(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:3])
    queue = queue_of(cloud)
    sizes = work(cloud, queue, lambda frame: frame.loss == PLAIN[1], 12)
    assert sizes[0] == 3
    assert sizes[1:] == [1] * 11, "it is tried again and again while nothing else tells whether the teacher works"
    assert cloud.frames.counts()[CAMERA].waiting == 2
    store(cloud, *PLAIN[3:9])
    work(cloud, queue, lambda frame: frame.loss == PLAIN[1], 12)
    assert cloud.frames.counts()[CAMERA].waiting == 8
    assert len(list((cloud.data_dir / "corrupt").iterdir())) == 1


def test_a_teacher_that_fails_on_everything_costs_no_frame_however_often_it_is_tried(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:12], *JUDGES[:4])
    queue = queue_of(cloud)
    assert work(cloud, queue, lambda frame: True, 60) == [8, *[1] * 59]
    assert cloud.frames.counts()[CAMERA].stored == 16
    work(cloud, queue, lambda frame: False, 60)
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.stored, counts.asking) == (16, 0), "once it is mended, all are labelled"
    with cloud.index.read() as connection:
        assert not connection.execute(leases.select()).all()


def test_a_frame_that_fails_keeps_no_other_waiting(cloud: CloudState) -> None:
    store(cloud, PLAIN[0])
    queue = queue_of(cloud)
    assert work(cloud, queue, lambda frame: frame.loss == PLAIN[0], 3) == [1, 1, 1]
    store(cloud, *PLAIN[1:4])
    found = taken(queue.take(8))
    assert [frame.loss for frame in found] == [PLAIN[3]], "one of them tells whether the teacher works"


def test_a_frame_that_was_left_behind_and_passed_over_is_forgotten(cloud: CloudState) -> None:
    store(cloud, PLAIN[0])
    queue = queue_of(cloud)
    work(cloud, queue, lambda frame: True, 1)
    cloud.clock.advance(FRESH_S)
    cloud.lifecycle.pass_over()
    assert queue.take(8) is None
    with cloud.index.read() as connection:
        assert not connection.execute(leases.select()).all()


def test_the_others_keep_to_the_allowance_of_the_day(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:20], *JUDGES[:2])
    queue = queue_of(cloud, per_day=8)
    batch = queue.take(30)
    assert batch is not None
    assert len(batch.frames) == 2 + 3, "half of the day has passed, and an eighth is in advance"
    queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames})
    assert queue.take(30) is None
    cloud.clock.advance(DAY_S / 4)
    assert len(taken(queue.take(30))) == 2


def test_a_frame_older_than_a_day_is_given_up_whatever_it_was_for(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:3], JUDGES[0])
    store(cloud, PLAIN[3], reason="audit")
    cloud.clock.advance(FRESH_S + 1)
    queue = queue_of(cloud)
    assert queue.take(8) is None
    assert cloud.lifecycle.pass_over() == {(CAMERA, "worth"): 3, (CAMERA, "judge"): 2}
    assert cloud.lifecycle.pass_over() == {}
    assert queue.demands() == []


def test_after_an_outage_the_newest_judges_go_first_and_chance_decides_within_their_hour(cloud: CloudState) -> None:
    cloud.clock.advance(-(cloud.clock.now() % HOUR_S))
    store(cloud, *JUDGES[:4])
    cloud.clock.advance(HOUR_S)
    store(cloud, *JUDGES[4:10])
    frames = taken(queue_of(cloud).take(6))
    assert {frame.loss for frame in frames} == set(map(float, JUDGES[4:10]))
    assert [frame.id for frame in frames] == sorted(frame.id for frame in frames), "their names are hashes"
    assert len(taken(queue_of(cloud).take(6))) == 4


def test_a_camera_with_many_frames_keeps_none_waiting(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:8])
    yard = [seq for seq in range(101, 140) if not held_out(seq, "yard")][:4]
    store(cloud, *yard, camera="yard", boot="other")
    queue = queue_of(cloud)
    for expected in ("gate", "yard"):
        batch = queue.take(4)
        assert batch is not None
        assert {frame.camera for frame in batch.frames} == {expected}
        queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames})


def test_nothing_is_labelled_of_a_guard_nor_of_a_camera_that_was_revoked(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path, FakeClock(20_000 * DAY_S + DAY_S / 2), store={"held_out_block_s": 4.0, "guard_s": 1.0})
    cloud.enroll()
    cloud.enroll("yard", edge="edge-2")
    store(cloud, *range(1, 40))
    store(cloud, *range(1, 5), reason="audit", boot="again")
    store(cloud, *range(1, 9), camera="yard", boot="other")
    cloud.roster.revoke("edge-2")
    frames = taken(queue_of(cloud).take(99))
    assert {frame.camera for frame in frames} == {CAMERA}
    assert not [frame for frame in frames if frame.guard]
    counts = cloud.frames.counts()[CAMERA]
    assert len(frames) == counts.asking < counts.stored
    cloud.close()


def test_a_frame_that_was_removed_while_it_was_labelled_leaves_no_lease(cloud: CloudState) -> None:
    store(cloud, *PLAIN[:2])
    queue = queue_of(cloud)
    batch = queue.take(8)
    assert batch is not None
    gone, stays = batch.frames
    cloud.frames.remove(CAMERA, [gone.id])
    assert queue.finish(batch.token, {frame.id: SEEN for frame in batch.frames}) == 1
    assert cloud.frames.get([stays.id])[0].labels is not None
    store(cloud, PLAIN[3])
    (left,) = taken(queue.take(8))
    cloud.frames.remove(CAMERA, [left.id])
    cloud.clock.advance(LEASE_S)
    assert queue.take(8) is None
    with cloud.index.read() as connection:
        assert not connection.execute(leases.select()).all()
