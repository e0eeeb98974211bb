from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.store.frames import is_guard, is_held_out
from culling.cloud.store.index import frames as table
from culling.cloud.store.index import history
from culling.cloud.store.lifecycle import FRESH_S
from culling.common.clock import DAY_S
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections, hard_frame
from support.scores import FEATURES
from support.stored import add, everything, files, known, label_all, split


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    state = CloudState(tmp_path, clock)
    yield state
    state.close()


def test_frames_of_a_round_that_cannot_be_judged_wait_for_the_next(cloud: CloudState) -> None:
    add(cloud, *range(1, 11))
    label_all(cloud)
    before = cloud.frames.counts()[CAMERA]
    assert cloud.lifecycle.claim(CAMERA, 1) == 10
    assert cloud.frames.counts()[CAMERA].waiting == 0
    cloud.lifecycle.unclaim(CAMERA, 1)
    assert cloud.frames.counts()[CAMERA] == before
    assert cloud.lifecycle.claim(CAMERA, 2) == 10


def test_a_round_claims_what_came_since_the_last_one_and_only_once(cloud: CloudState) -> None:
    add(cloud, *range(1, 11))
    label_all(cloud)
    assert cloud.lifecycle.claim(CAMERA, 1) == 10
    add(cloud, 11, 12)
    assert cloud.lifecycle.claim(CAMERA, 2) == 0, "without labels there is nothing to read"
    label_all(cloud)
    assert cloud.lifecycle.claim(CAMERA, 1) == 10, "a round that starts again has the same frames"
    assert cloud.lifecycle.claim(CAMERA, 2) == 2
    assert cloud.frames.counts()[CAMERA].waiting == 0


def test_frames_of_a_round_that_failed_are_taken_up_by_the_next(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    label_all(cloud)
    first = cloud.rounds.start(CAMERA, "manual", 1.0).id
    cloud.lifecycle.claim(CAMERA, first)
    cloud.rounds.end(first, "failed", {}, "the teacher is missing", 2.0)
    assert cloud.frames.counts()[CAMERA].waiting == 0, "it would fail again at once"
    add(cloud, 6)
    label_all(cloud)
    second = cloud.rounds.start(CAMERA, "manual", 2.0).id
    assert cloud.lifecycle.claim(CAMERA, second) == 6
    cloud.rounds.end(second, "refused", {}, "worse", 3.0)
    assert cloud.lifecycle.claim(CAMERA, cloud.rounds.start(CAMERA, "manual", 3.0).id) == 0


def test_what_can_be_learnt_from_is_labelled_and_has_features(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    add(cloud, *range(3, 9), features=FEATURES)
    *labelled, _ = everything(cloud)
    cloud.lifecycle.label({frame.id: detections() for frame in labelled})
    lessons = cloud.lifecycle.lessons(CAMERA, 4)
    assert [frame.loss for frame in lessons] == [4.0, 5.0, 6.0, 7.0]
    assert all(frame.features == FEATURES for frame in lessons)
    assert labelled[0].features is None


def test_labels_are_kept_and_read_back(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    first, second = everything(cloud)
    found = detections((1, 2, 30, 40, 0.75, 3), (0, 0, 5, 5, 0.25, 1))
    cloud.lifecycle.label({first.id: found})
    labels = cloud.frames.get([first.id])[0].labels
    assert labels is not None
    assert np.array_equal(labels.boxes, found.boxes)
    assert labels.labels.tolist() == [3, 1]
    assert cloud.frames.get([second.id])[0].labels is None


def test_the_pool_is_all_that_is_labelled_and_may_be_trained_on(cloud: CloudState) -> None:
    trained, held = split(20)
    add(cloud, *trained, *held)
    frames = {int(frame.loss): frame.id for frame in everything(cloud)}
    cloud.lifecycle.label({frames[seq]: detections() for seq in (*trained[:5], *held)})
    assert [int(frame.loss) for frame in cloud.lifecycle.pool(CAMERA, 99)] == trained[:5]
    assert [int(frame.loss) for frame in cloud.lifecycle.pool(CAMERA, 2)] == trained[3:5], "the newest"
    assert cloud.lifecycle.pool("yard", 99) == []


def test_labels_are_counted_by_when_they_came(cloud: CloudState, clock: FakeClock) -> None:
    add(cloud, 1, 2, 3)
    add(cloud, 4, camera="yard")
    first, second, _, other = (frame.id for frame in everything(cloud))
    began = clock.now()
    cloud.lifecycle.label({first: detections()})
    clock.advance(10)
    cloud.lifecycle.label({second: detections(), other: detections()})
    assert cloud.lifecycle.labelled_between(began, began + 11) == {CAMERA: 2, "yard": 1}
    assert cloud.lifecycle.labelled_between(began, began + 10) == {CAMERA: 1}
    cloud.frames.remove(CAMERA, [second])
    assert cloud.lifecycle.labelled_between(began + 10, began + 99) == {CAMERA: 1, "yard": 1}, "it was paid for"


def test_what_is_labelled_after_all_waits_for_a_round(cloud: CloudState, clock: FakeClock) -> None:
    trained, held = split(20)
    add(cloud, *trained[:3], *held[:2])
    add(cloud, trained[3], reason="audit")
    clock.advance(FRESH_S - 1)
    assert cloud.lifecycle.pass_over() == {}
    clock.advance(1)
    assert cloud.lifecycle.pass_over() == {(CAMERA, "worth"): 3, (CAMERA, "judge"): 3}
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.asking_judges, counts.asking_others, counts.waiting) == (0, 0, 0)
    label_all(cloud)
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.asking, counts.waiting, counts.held_out) == (0, 4, 2)
    cloud.lifecycle.claim(CAMERA, 7)
    label_all(cloud)
    assert cloud.frames.counts()[CAMERA].waiting == 0


def test_guards_are_given_up_though_nothing_else_asks_and_make_room(tmp_path: Path, clock: FakeClock) -> None:
    cloud = CloudState(tmp_path, clock, store={"held_out_block_s": 10.0, "guard_s": 3.0})
    at = next(float(second) for second in range(1000) if is_guard(CAMERA, second, 10.0, 3.0))
    add(cloud, 1, captured=at)
    assert [frame.guard for frame in everything(cloud)] == [True]
    assert cloud.frames.counts()[CAMERA].asking == 0
    clock.advance(FRESH_S)
    assert cloud.lifecycle.pass_over() == {(CAMERA, "guard"): 1}
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {(CAMERA, "quota"): 1}
    cloud.close()


def test_labels_are_told_in_order_of_time_and_damaged_ones_left_out(cloud: CloudState) -> None:
    add(cloud, 3, 1, 2)
    first, second, third = sorted(everything(cloud), key=lambda frame: frame.captured)
    cloud.lifecycle.label({frame.id: detections() for frame in (third, first, second)})
    with cloud.index.write() as connection:
        connection.execute(table.update().where(table.c.id == second.id).values(labels=b"rot"))
    assert [(name, at) for name, at, _ in cloud.lifecycle.labelled(CAMERA)] == [
        (first.id, first.captured),
        (third.id, third.captured),
    ]


def test_scores_are_kept_by_model_and_replaced(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    first, second = (frame.id for frame in everything(cloud))
    one, other = detections((1, 2, 30, 40, 0.75, 3)), detections()
    cloud.lifecycle.score("gate-1", {first: one, second: one})
    cloud.lifecycle.score("gate-1", {second: other})
    cloud.lifecycle.score("gate-2", {first: other})
    assert {name: len(found) for name, found in cloud.lifecycle.scores("gate-1").items()} == {first: 1, second: 0}
    cloud.lifecycle.forget_scores("yard", but="yard-1")
    assert len(cloud.lifecycle.scores("gate-1")) == 2
    cloud.lifecycle.forget_scores(CAMERA, but="gate-2")
    assert cloud.lifecycle.scores("gate-1") == {}
    assert list(cloud.lifecycle.scores("gate-2")) == [first]


def test_what_a_camera_forwards_is_counted_over_all_minutes(cloud: CloudState) -> None:
    assert cloud.lifecycle.forwarded_share(CAMERA) is None
    counts = {column.name: 0 for column in history.c if column.name not in ("camera", "minute")}
    with cloud.index.write() as connection:
        for minute in (1, 2):
            row = {**counts, "camera": CAMERA, "minute": minute, "inferred": 100, "hard": minute}
            connection.execute(history.insert().values(**row))
    assert cloud.lifecycle.forwarded_share(CAMERA) == 0.015


def test_a_full_quota_takes_frames_first_that_were_never_labelled(cloud: CloudState, clock: FakeClock) -> None:
    trained, held = split(12)
    for seq in (*trained, *held):
        add(cloud, seq)
        clock.advance(1)
    frames = {int(frame.loss): frame.id for frame in everything(cloud)}
    cloud.lifecycle.label({frames[seq]: detections() for seq in trained[:4]})
    cloud.lifecycle.claim(CAMERA, 1)
    clock.advance(FRESH_S)
    assert cloud.lifecycle.pass_over() == {(CAMERA, "worth"): len(trained) - 4, (CAMERA, "judge"): len(held)}
    size = cloud.frames.counts()[CAMERA].bytes // len((*trained, *held))
    cloud.lifecycle.expire(quota_bytes=5 * size, retention_days=30)
    assert [int(frame.loss) for frame in everything(cloud)] == trained[:4]


def test_what_a_running_round_trains_on_stays_though_an_earlier_one_claimed_it(cloud: CloudState) -> None:
    add(cloud, *split(8)[0])
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    cloud.rounds.end(cloud.rounds.start(CAMERA, "manual", 1.0).id, "refused", {}, "no better", 2.0)
    kept = [frame.id for frame in everything(cloud)][:2]
    cloud.lifecycle.keep(kept, cloud.rounds.start(CAMERA, "manual", 3.0).id)
    cloud.lifecycle.expire(quota_bytes=1, retention_days=30)
    assert [frame.id for frame in everything(cloud)] == kept


def test_retention_removes_file_and_content_but_knows_the_repeat(cloud: CloudState, clock: FakeClock) -> None:
    add(cloud, 1, 2)
    clock.advance(10 * DAY_S)
    add(cloud, 3)
    assert cloud.lifecycle.expire(quota_bytes=10**9, retention_days=5) == {(CAMERA, "retention"): 2}
    assert len(files(cloud)) == cloud.frames.counts()[CAMERA].stored == 1
    assert known(cloud)
    assert cloud.lifecycle.expire(quota_bytes=10**9, retention_days=5) == {}


def test_a_frame_that_is_gone_is_forgotten_in_the_end(cloud: CloudState, clock: FakeClock) -> None:
    add(cloud, 1)
    clock.advance(6 * DAY_S)
    cloud.lifecycle.expire(10**9, retention_days=5)
    clock.advance(5 * DAY_S)
    cloud.lifecycle.expire(10**9, retention_days=5)
    assert not known(cloud)


def test_the_quota_takes_the_oldest_that_a_round_has_considered(cloud: CloudState, clock: FakeClock) -> None:
    for seq in range(1, 6):
        add(cloud, seq)
        clock.advance(1)
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    add(cloud, *range(6, 11))
    size = cloud.frames.counts()[CAMERA].bytes // 10
    label_all(cloud)
    gone = cloud.lifecycle.expire(quota_bytes=9 * size, retention_days=30)
    considered = [seq for seq in range(1, 6) if seq not in split(10)[1]]
    left = [frame.loss for frame in everything(cloud)]
    assert gone == {(CAMERA, "quota"): 3}, "down to .88, as it was above nine tenths"
    assert left == [float(seq) for seq in range(1, 11) if seq not in considered[:3]]
    assert cloud.lifecycle.expire(quota_bytes=8 * size, retention_days=30) == {}, "not above nine tenths"


def test_cameras_that_are_full_together_are_cleared_in_several_calls(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.store.lifecycle.AT_ONCE", 3)
    for start, camera in ((0, "a"), (10, "b"), (20, "c")):
        add(cloud, *range(start + 1, start + 11), camera=camera)
    label_all(cloud)
    for camera in ("a", "b", "c"):
        cloud.lifecycle.claim(camera, 1)
    size = cloud.frames.counts()["a"].bytes // 10
    calls = [cloud.lifecycle.expire(quota_bytes=10 * size, retention_days=30) for _ in range(4)]
    assert [sum(gone.values()) for gone in calls] == [4, 2, 0, 0], "of two cameras, and then of the third"
    assert {counts.stored for counts in cloud.frames.counts().values()} == {8}


def test_what_a_camera_is_judged_by_and_learnt_from_goes_last(cloud: CloudState, clock: FakeClock) -> None:
    for seq in range(1, 21):
        add(cloud, seq)
        clock.advance(1)
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    trained, held = split(20)
    ids = {int(frame.loss): frame.id for frame in everything(cloud)}
    cloud.lifecycle.keep([ids[seq] for seq in trained[:2]], 1)
    cloud.lifecycle.keep([ids[seq] for seq in trained[2:4]], 2)
    size = cloud.frames.counts()[CAMERA].bytes // 20
    cloud.lifecycle.expire(quota_bytes=size * (len(held) + 3), retention_days=30)
    assert {int(frame.loss) for frame in everything(cloud)} == {*held, *trained[2:4]}
    cloud.lifecycle.expire(quota_bytes=1, retention_days=30)
    assert everything(cloud) == [], "a camera that is full of them is not stuck"


def test_of_those_that_judge_the_hour_that_has_most_goes_first(cloud: CloudState) -> None:
    hour_s, times = 3600.0, [1_800_000_000.0 + 60 * minute for minute in range(2000)]
    held = [at for at in times if is_held_out(CAMERA, at, 1.0)]
    busy = [at for at in held if int(at // hour_s) % 24 == 9][:6]
    quiet = [at for at in held if int(at // hour_s) % 24 == 3][:2]
    for seq, at in enumerate([*quiet, *busy], 1):
        add(cloud, seq, captured=at)
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    size = cloud.frames.counts()[CAMERA].bytes // len([*quiet, *busy])
    cloud.lifecycle.expire(quota_bytes=int(4.9 * size), retention_days=30)
    left = [frame.captured for frame in everything(cloud)]
    assert sorted(left) == sorted([*quiet, *busy[-2:]]), "though the quiet hour is the older one"


def test_a_round_that_runs_keeps_its_frames(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, cloud.rounds.start(CAMERA, "manual", 1.0).id)
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {}


def test_a_disk_that_runs_full_takes_what_rounds_are_done_with(cloud: CloudState) -> None:
    trained, held = split(20)
    add(cloud, *trained, *held)
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    size = len(hard_frame(1)[1])
    gone = cloud.lifecycle.expire(10**9, 30, spare_bytes=2 * size)
    assert set(gone) == {(CAMERA, "disk")}
    assert 2 <= gone[CAMERA, "disk"] <= 3
    cloud.lifecycle.expire(10**9, 30, spare_bytes=10**9)
    assert sorted(int(frame.loss) for frame in everything(cloud)) == held, "never those that judge"


def test_the_quota_never_takes_what_still_waits(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {}, "for the teacher"
    label_all(cloud)
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {}, "for a round"
    assert len(everything(cloud)) == 5


def test_one_cameras_quota_is_not_anothers(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    add(cloud, 3, camera="yard")
    label_all(cloud)
    cloud.lifecycle.claim(CAMERA, 1)
    cloud.lifecycle.claim("yard", 2)
    size = cloud.frames.counts()["yard"].bytes
    assert cloud.lifecycle.expire(quota_bytes=int(size * 1.2), retention_days=30) == {(CAMERA, "quota"): 1}
