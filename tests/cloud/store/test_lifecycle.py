from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.store.frames import is_held_out
from culling.common.clock import DAY_S
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections, hard_frame
from support.scores import FEATURES
from support.stored import add, everything, files, known, split


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
    before = cloud.frames.counts()[CAMERA]
    assert cloud.lifecycle.claim(CAMERA, 1) == 10
    assert cloud.frames.counts()[CAMERA].waiting == 0
    cloud.lifecycle.unclaim(CAMERA, 1)
    assert cloud.frames.counts()[CAMERA] == before
    assert cloud.lifecycle.claim(CAMERA, 2) == 10


def test_a_round_claims_what_came_since_the_last_one_and_only_once(cloud: CloudState) -> None:
    add(cloud, *range(1, 11))
    assert cloud.lifecycle.claim(CAMERA, 1) == 10
    add(cloud, 11, 12)
    assert cloud.lifecycle.claim(CAMERA, 1) == 10, "a round that starts again has the same frames"
    assert cloud.lifecycle.claim(CAMERA, 2) == 2
    assert cloud.frames.counts()[CAMERA].waiting == 0


def test_frames_of_a_round_that_failed_are_taken_up_by_the_next(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    first, second, third = (cloud.rounds.start(CAMERA, "manual", 1.0).id for _ in range(3))
    cloud.lifecycle.claim(CAMERA, first)
    cloud.rounds.end(first, "failed", {}, "the teacher is missing", 2.0)
    assert cloud.frames.counts()[CAMERA].waiting == 0, "it would fail again at once"
    add(cloud, 6)
    assert cloud.lifecycle.claim(CAMERA, second) == 6
    cloud.rounds.end(second, "refused", {}, "worse", 3.0)
    assert cloud.lifecycle.claim(CAMERA, third) == 0


def test_candidates_are_the_highest_losses_and_never_held_out(cloud: CloudState) -> None:
    trained, held = split(40)
    add(cloud, *range(1, 41))
    cloud.lifecycle.claim(CAMERA, 1)
    chosen = cloud.lifecycle.candidates(CAMERA, 1, 5)
    assert [frame.loss for frame in chosen] == [float(seq) for seq in sorted(trained, reverse=True)[:5]]
    judged = cloud.lifecycle.held_out(CAMERA, 100)
    assert sorted(frame.loss for frame in judged) == [float(seq) for seq in held]
    assert all(frame.held_out for frame in judged)


def test_candidates_are_those_worth_most_where_something_else_than_the_loss_says_so(cloud: CloudState) -> None:
    trained, _ = split(40)
    add(cloud, *range(1, 41))
    cloud.lifecycle.claim(CAMERA, 1)
    chosen = cloud.lifecycle.candidates(CAMERA, 1, 5, worth=lambda frame: -frame.loss if frame.loss < 20 else -99.0)
    assert [frame.loss for frame in chosen] == [float(seq) for seq in trained[:5]]
    chosen = cloud.lifecycle.candidates(CAMERA, 1, 5, worth=lambda frame: 0.0)
    assert [frame.loss for frame in chosen] == [float(seq) for seq in trained[:-6:-1]]


def test_what_can_be_learnt_from_is_labelled_and_has_features(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    add(cloud, *range(3, 9), features=FEATURES)
    *labelled, _ = everything(cloud)
    cloud.lifecycle.label({frame.id: detections() for frame in labelled})
    lessons = cloud.lifecycle.lessons(CAMERA, 4)
    assert [frame.loss for frame in lessons] == [4.0, 5.0, 6.0, 7.0]
    assert all(frame.features == FEATURES for frame in lessons)
    assert labelled[0].features is None


def test_a_few_audit_frames_are_candidates_whatever_their_loss(cloud: CloudState) -> None:
    trained, _ = split(60)
    add(cloud, *trained[:30])
    add(cloud, *trained[30:], loss=0.0, reason="audit")
    cloud.lifecycle.claim(CAMERA, 1)
    chosen = cloud.lifecycle.candidates(CAMERA, 1, 8)
    assert [frame.reason for frame in chosen].count("audit") == 2
    assert len(chosen) == 8


def test_held_out_frames_that_no_round_has_seen_judge_nothing_yet(cloud: CloudState) -> None:
    add(cloud, *split(20)[1])
    assert cloud.lifecycle.held_out(CAMERA, 100) == []


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


def test_replay_comes_from_the_culled_sets_of_earlier_rounds(cloud: CloudState) -> None:
    add(cloud, *range(1, 7))
    ids = [frame.id for frame in everything(cloud)]
    cloud.lifecycle.keep(ids[:2], 1)
    cloud.lifecycle.keep(ids[2:4], 2)
    assert {frame.id for frame in cloud.lifecycle.culled(CAMERA, 3, 10)} == set(ids[:4])
    assert {frame.id for frame in cloud.lifecycle.culled(CAMERA, 2, 10)} == set(ids[:2])
    assert len(cloud.lifecycle.culled(CAMERA, 3, 1)) == 1
    assert cloud.lifecycle.culled(CAMERA, 3, 0) == []


def test_each_round_replays_others(cloud: CloudState) -> None:
    add(cloud, *range(1, 31))
    cloud.lifecycle.keep([frame.id for frame in everything(cloud)], 1)
    chosen = [tuple(frame.id for frame in cloud.lifecycle.culled(CAMERA, turn, 5)) for turn in range(2, 12)]
    assert chosen[0] == tuple(frame.id for frame in cloud.lifecycle.culled(CAMERA, 2, 5))
    assert len(set(chosen)) == 10
    assert len({name for names in chosen for name in names}) > 20


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
    cloud.lifecycle.claim(CAMERA, 1)
    add(cloud, *range(6, 11))
    size = cloud.frames.counts()[CAMERA].bytes // 10
    gone = cloud.lifecycle.expire(quota_bytes=9 * size, retention_days=30)
    considered = [seq for seq in range(1, 6) if seq not in split(10)[1]]
    left = [frame.loss for frame in everything(cloud)]
    assert gone == {(CAMERA, "quota"): 2}, "down to nine tenths"
    assert left == [float(seq) for seq in range(1, 11) if seq not in considered[:2]]


def test_what_a_camera_is_judged_by_and_learnt_from_goes_last(cloud: CloudState, clock: FakeClock) -> None:
    for seq in range(1, 21):
        add(cloud, seq)
        clock.advance(1)
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
    cloud.lifecycle.claim(CAMERA, 1)
    size = cloud.frames.counts()[CAMERA].bytes // len([*quiet, *busy])
    cloud.lifecycle.expire(quota_bytes=int(4.9 * size), retention_days=30)
    left = [frame.captured for frame in everything(cloud)]
    assert sorted(left) == sorted([*quiet, *busy[-2:]]), "though the quiet hour is the older one"


def test_a_round_that_runs_keeps_its_frames(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    cloud.lifecycle.claim(CAMERA, cloud.rounds.start(CAMERA, "manual", 1.0).id)
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {}


def test_a_disk_that_runs_full_takes_what_rounds_are_done_with(cloud: CloudState) -> None:
    trained, held = split(20)
    add(cloud, *trained, *held)
    cloud.lifecycle.claim(CAMERA, 1)
    size = len(hard_frame(1)[1])
    gone = cloud.lifecycle.expire(10**9, 30, spare_bytes=2 * size)
    assert set(gone) == {(CAMERA, "disk")}
    assert 2 <= gone[CAMERA, "disk"] <= 3
    cloud.lifecycle.expire(10**9, 30, spare_bytes=10**9)
    assert sorted(int(frame.loss) for frame in everything(cloud)) == held, "never those that judge"


def test_the_quota_never_takes_what_still_waits(cloud: CloudState) -> None:
    add(cloud, *range(1, 6))
    assert cloud.lifecycle.expire(quota_bytes=1, retention_days=30) == {}
    assert len(everything(cloud)) == 5


def test_one_cameras_quota_is_not_anothers(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    add(cloud, 3, camera="yard")
    cloud.lifecycle.claim(CAMERA, 1)
    cloud.lifecycle.claim("yard", 2)
    size = cloud.frames.counts()["yard"].bytes
    assert cloud.lifecycle.expire(quota_bytes=int(size * 1.2), retention_days=30) == {(CAMERA, "quota"): 1}
