from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.control.steering.accuracy import Measurer
from culling.cloud.store.index import reviews as table
from culling.cloud.store.people.reviews import Reviews, Said
from culling.cloud.store.purge.purge import purge
from culling.common.clock import DAY_S
from culling.common.errors import InputError, SettingsError, StorageError
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, DOUBTFUL, PERSON, by_number, rows
from support.stored import add, everything

OWN = detections((5, 5, 25, 25, 0.4, 1))
SURE = detections((5, 5, 25, 25, 1.0, 1))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    """Eight frames, considered by a round that is over; the teacher has labelled all but the last."""
    state = CloudState(tmp_path, clock)
    state.enroll()
    add(state, *range(1, 9))
    state.lifecycle.label({frame.id: detections(PERSON, DOUBTFUL) for frame in everything(state)[:7]})
    state.lifecycle.claim(CAMERA, state.rounds.start(CAMERA, "manual", 1.0).id)
    state.rounds.end(1, "refused", {}, "no better", 2.0)
    yield state
    state.close()


def enter(cloud: CloudState, *numbers: int, said: Said | None = None, at: float = 100.0) -> list[str]:
    frames = by_number(cloud)
    what = {frames[one].id: said or Said("corrected", OWN) for one in numbers}
    return Reviews(cloud.index).enter(CAMERA, what, "ann@desk", at, lambda _: None)


def labels(cloud: CloudState, seq: int) -> list[tuple[float, ...]]:
    return rows(by_number(cloud)[seq].labels)


def test_a_persons_labels_take_the_place_of_the_teachers_with_a_weight_of_one(cloud: CloudState) -> None:
    enter(cloud, 3)
    assert labels(cloud, 3) == rows(SURE)
    assert labels(cloud, 2) == rows(detections(PERSON, DOUBTFUL))


def test_who_said_it_when_and_what_the_teacher_had_said_is_kept(cloud: CloudState) -> None:
    enter(cloud, 3, 8)
    frames = by_number(cloud)
    found = Reviews(cloud.index).of(CAMERA, [frame.id for frame in frames.values()])
    assert found.keys() == {frames[3].id, frames[8].id}
    one = found[frames[3].id]
    assert (one.decision, one.who, one.at) == ("corrected", "ann@desk", 100.0)
    assert rows(one.teacher) == rows(detections(PERSON, DOUBTFUL))
    assert found[frames[8].id].teacher is None, "it has not looked"
    enter(cloud, 3, said=Said("corrected", detections(CAR)), at=200.0)
    again = Reviews(cloud.index).of(CAMERA, [frames[3].id])[frames[3].id]
    assert rows(again.teacher) == rows(detections(PERSON, DOUBTFUL)), "not the person's first word"
    assert again.at == 200.0


def test_what_the_teacher_says_later_does_not_overrule_a_person(cloud: CloudState) -> None:
    enter(cloud, 8)
    name = by_number(cloud)[8].id
    cloud.lifecycle.label({name: detections(CAR)})
    assert labels(cloud, 8) == rows(SURE)
    assert rows(Reviews(cloud.index).of(CAMERA, [name])[name].teacher) == rows(detections(CAR))
    assert cloud.lifecycle.labelled_between(0.0, cloud.clock.now() + 1) == {CAMERA: 8}, "it was paid for all the same"


def test_a_frame_that_nobody_had_labelled_waits_for_a_round(cloud: CloudState) -> None:
    name = by_number(cloud)[8].id
    assert cloud.frames.counts()[CAMERA].waiting == 0
    enter(cloud, 7, 8)
    assert cloud.frames.counts()[CAMERA].waiting == (0 if by_number(cloud)[8].held_out else 1)
    assert cloud.lifecycle.claim(CAMERA, cloud.rounds.start(CAMERA, "manual", 3.0).id) == 1
    assert name in {frame.id for frame in cloud.lifecycle.pool(CAMERA, 99)} or by_number(cloud)[8].held_out


def test_a_frame_that_was_only_skipped_keeps_the_teachers_labels(cloud: CloudState) -> None:
    enter(cloud, 3, said=Said("skipped"))
    assert labels(cloud, 3) == rows(detections(PERSON, DOUBTFUL))
    cloud.lifecycle.label({by_number(cloud)[3].id: detections(CAR)})
    assert labels(cloud, 3) == rows(detections(CAR))
    assert enter(cloud, 3, said=Said("skipped")) == []
    assert len(enter(cloud, 3)) == 1, "a person may still say more"


def test_the_same_word_twice_changes_nothing(cloud: CloudState) -> None:
    assert len(enter(cloud, 3, 4)) == 2
    assert enter(cloud, 3, 4, at=999.0) == []
    name = by_number(cloud)[3].id
    assert Reviews(cloud.index).of(CAMERA, [name])[name].at == 100.0


def test_nothing_is_half_entered(cloud: CloudState) -> None:
    frames = by_number(cloud)
    gone = frames[5].id
    cloud.frames.remove(CAMERA, [gone])
    said = {frames[3].id: Said("corrected", OWN), gone: Said("corrected", OWN)}
    with pytest.raises(InputError, match=f"no stored frame {gone}: nothing is taken over"):
        Reviews(cloud.index).enter(CAMERA, said, "ann", 1.0, lambda _: None)
    assert labels(cloud, 3) == rows(detections(PERSON, DOUBTFUL))

    def full(_: int) -> None:
        raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        Reviews(cloud.index).enter(CAMERA, {frames[3].id: Said("corrected", OWN)}, "ann", 1.0, full)
    assert labels(cloud, 3) == rows(detections(PERSON, DOUBTFUL)), "what the audit log lacks did not happen"
    assert Reviews(cloud.index).last(CAMERA) is None


def test_a_frame_of_another_camera_or_with_too_many_boxes_is_refused(cloud: CloudState) -> None:
    name = by_number(cloud)[3].id
    with pytest.raises(InputError, match="camera yard has no stored frame"):
        Reviews(cloud.index).enter("yard", {name: Said("corrected", OWN)}, "ann", 1.0, lambda _: None)
    crowd = detections(*[(at / 10, 1, at / 10 + 5, 9, 1.0, 0) for at in range(301)])
    with pytest.raises(InputError, match="301 boxes; a frame may have 300"):
        enter(cloud, 3, said=Said("corrected", crowd))


def test_a_persons_labels_cannot_be_skipped_away(cloud: CloudState) -> None:
    enter(cloud, 3)
    with pytest.raises(InputError, match="cannot be skipped any more"):
        enter(cloud, 3, said=Said("skipped"))


# How long they stay


def test_a_quota_takes_a_persons_frames_last_of_all(cloud: CloudState, clock: FakeClock) -> None:
    frames = by_number(cloud)
    mine = [frames[seq].id for seq in (1, 2, 7)]
    enter(cloud, 1, 2, 7)
    cloud.frames.remove(CAMERA, [frames[8].id])
    cloud.lifecycle.keep([frames[seq].id for seq in (2, 3)], 1)
    size = cloud.frames.counts()[CAMERA].bytes // 7
    cloud.lifecycle.expire(quota_bytes=4 * size, retention_days=30)
    assert {frame.id for frame in everything(cloud)} == set(mine)
    cloud.lifecycle.expire(quota_bytes=1, retention_days=30)
    assert everything(cloud) == [], "a quota is a quota"
    with cloud.index.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


def test_a_full_disk_takes_none_of_them(cloud: CloudState) -> None:
    enter(cloud, 1, 2)
    cloud.lifecycle.expire(10**9, 30, spare_bytes=10**9)
    assert {1, 2} <= by_number(cloud).keys()


def test_retention_takes_a_persons_frames_after_the_teachers(cloud: CloudState, clock: FakeClock) -> None:
    enter(cloud, 1, 2)
    enter(cloud, 3, said=Said("skipped"))
    clock.advance(31 * DAY_S)
    cloud.lifecycle.expire(10**9, 30, people_days=365)
    assert sorted(by_number(cloud)) == [1, 2]
    clock.advance(335 * DAY_S)
    cloud.lifecycle.expire(10**9, 30, people_days=365)
    assert everything(cloud) == []


@pytest.mark.parametrize("days", [5, 400])
def test_a_time_that_outlives_the_records_or_is_shorter_than_any_is_refused(tmp_path: Path, days: float) -> None:
    with pytest.raises(SettingsError, match=r"store\.people_days.*is not within retention_days = 30 and records_days"):
        CloudState(tmp_path, store={"people_days": days})


def test_a_purge_takes_what_people_said_too(cloud: CloudState, clock: FakeClock) -> None:
    enter(cloud, 1, 2)
    purge(cloud.index, cloud.data_dir, CAMERA, None, clock.now())
    with cloud.index.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


# What they count for


def test_measured_accuracy_is_measured_again_by_a_persons_labels(cloud: CloudState, clock: FakeClock) -> None:
    add(cloud, *range(20, 40), reason="audit", probability=0.5)
    frames = by_number(cloud)
    cloud.lifecycle.label({frames[seq].id: detections(PERSON) for seq in range(20, 40)})
    measurer = Measurer(cloud.index, cloud.frames, cloud.settings, clock)
    before = measurer.measure(CAMERA, "gate-1")
    enter(cloud, *range(20, 40), said=Said("corrected", detections(CAR)), at=clock.now() + 1)
    after = measurer.measure(CAMERA, "gate-1")
    assert before is not None
    assert after is not None
    assert before.now.ap50 is not None
    assert after.now.ap50 is not None
    assert (before.now.ap50.value, after.now.ap50.value) == (pytest.approx(1.0), 0.0)
    assert measurer._latest_label(CAMERA) == clock.now() + 1, "so that the service measures again"
