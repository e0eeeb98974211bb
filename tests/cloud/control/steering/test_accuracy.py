"""Which frames a camera's accuracy is measured by, and that it is kept where the page and the schedule read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from culling.cloud.control.steering.accuracy import AUDITS, Measurer, falls, read_measured
from culling.cloud.control.steering.schedule import camera_stats
from culling.cloud.page import views
from culling.cloud.store.desired import DesiredState
from culling.cloud.store.frames import Counts
from culling.cloud.store.index import frames
from culling.common.clock import SystemClock
from culling.common.frame import Detections
from support.cloud import CAMERA, CloudState, camera_state, detections, hard_frame

EDGE = "e" * 40
NOW = 1_800_000_000.0
CAR = (0, 0, 20, 20, 0.9, 2)
RIGHT, WRONG = detections(CAR), detections((40, 40, 60, 60, 0.9, 2))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll()
    state.roster.heard({CAMERA: camera_state(model_id=f"{CAMERA}-1")}, NOW)
    yield state
    state.close()


def store(cloud: CloudState, first: int, count: int, found: Detections, **told: object) -> None:
    """Store labelled frames, one in ten minutes; the teacher sees one car in each."""
    for seq in range(first, first + count):
        frame, jpeg = hard_frame(seq, found=found, captured=NOW + 600.0 * seq, **told)
        cloud.frames.add(EDGE, frame, jpeg)
    names = {row["id"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 10_000, None, None)}
    cloud.lifecycle.label({frame.id: detections(CAR) for frame in cloud.frames.get(names) if frame.labels is None})


def measurer(cloud: CloudState) -> Measurer:
    return Measurer(cloud.index, cloud.frames, cloud.settings, SystemClock())


def test_audits_count_by_their_probability_and_hard_frames_once(cloud: CloudState) -> None:
    store(cloud, 1, 15, RIGHT, reason="audit", probability=0.1)
    store(cloud, 20, 5, WRONG, reason="audit", probability=0.1)
    store(cloud, 5, 1, WRONG, boot="boot-2")  # hard
    store(cloud, 40, 9, WRONG, reason="bootstrap")
    store(cloud, 50, 9, WRONG, reason="audit")  # of an agent that does not tell the probability
    told = measurer(cloud).next()
    assert told is not None
    camera, measured = told
    assert camera == CAMERA
    assert measured is not None
    assert (measured.now.frames, measured.now.audits) == (21, 20)
    assert measured.now.wrong.value == pytest.approx((50 + 1) / 201)
    assert measured.watched is not None


def test_an_audit_that_is_not_labelled_is_stood_for_by_its_neighbour(cloud: CloudState) -> None:
    store(cloud, 1, 15, RIGHT, reason="audit", probability=0.1)
    store(cloud, 20, 5, WRONG, reason="audit", probability=0.1)
    for seq in range(15):  # within the hour of the last wrong one
        frame, jpeg = hard_frame(
            seq, boot="late", captured=NOW + 600.0 * 24 + seq, found=RIGHT, reason="audit", probability=0.1
        )
        cloud.frames.add(EDGE, frame, jpeg)
    measured = measurer(cloud).measure(CAMERA, f"{CAMERA}-1")
    assert measured is not None
    assert measured.now.audits == 20
    assert measured.now.wrong.value == pytest.approx((5 + 15) / 35)


def test_records_that_the_teacher_answered_in_time_are_right(cloud: CloudState) -> None:
    store(cloud, 1, 12, RIGHT, reason="audit", probability=0.1)
    store(cloud, 20, 4, WRONG, reason="audit", probability=0.1)
    with cloud.index.write() as connection:
        connection.execute(frames.update().where(frames.c.seq.in_([20, 21])).values(answered=True))
    measured = measurer(cloud).measure(CAMERA, f"{CAMERA}-1")
    assert measured is not None
    assert measured.now.wrong.value == pytest.approx(2 / 16)


def test_the_newest_audits_are_held_against_the_first_once_a_day(cloud: CloudState) -> None:
    subject = measurer(cloud)
    store(cloud, 1, AUDITS, RIGHT, reason="audit", probability=0.1)
    first = subject.measure(CAMERA, f"{CAMERA}-1")
    assert first is not None
    store(cloud, AUDITS + 1, AUDITS, WRONG, reason="audit", probability=0.1)
    soon = subject.measure(CAMERA, f"{CAMERA}-1", first.watched)
    assert soon is not None
    assert soon.now.ap50 is not None
    assert soon.now.ap50.value == 0.0
    assert soon.watched is first.watched, "ten hours later"
    store(cloud, 2 * AUDITS + 1, 90, WRONG, reason="audit", probability=0.1)
    late = subject.measure(CAMERA, f"{CAMERA}-1", soon.watched)
    assert late is not None
    assert late.watched is not None
    assert late.watched.falls[0].size == 1.0
    assert subject.measure(CAMERA, "another") is None


def test_a_fall_is_told_and_makes_a_round_due(cloud: CloudState) -> None:
    subject = measurer(cloud)
    store(cloud, 1, AUDITS, RIGHT, reason="audit", probability=0.1)
    subject.next()
    store(cloud, AUDITS + 1, 150, WRONG, reason="audit", probability=0.1)
    subject.next()
    [row] = views.cameras(cloud.index, NOW, cloud.settings)
    [camera] = cloud.roster.rows()
    assert row["worse"] == [fall.told() for fall in falls(camera)]
    assert "worse at 09-14 h UTC: 0.00 (0.00 to 0.00), was 1.00" in row["worse"]
    assert camera_stats(camera, Counts(), DesiredState(), 0, new=False).fell == 1.0


def test_a_new_student_is_held_against_the_one_before_it(cloud: CloudState) -> None:
    store(cloud, 1, AUDITS, RIGHT, reason="audit", probability=0.1)
    store(cloud, 145, 30, WRONG, reason="audit", probability=0.1, model_id=f"{CAMERA}-2")  # a day later
    told = measurer(cloud).measure(CAMERA, f"{CAMERA}-2")
    assert told is not None
    assert told.watched is not None
    assert "worse: 0.00 (0.00 to 0.00), was 1.00 with the student before" in [
        fall.told() for fall in told.watched.falls
    ]


def test_it_is_kept_for_the_student_that_it_was_measured_of(cloud: CloudState) -> None:
    [row] = views.cameras(cloud.index, NOW, cloud.settings)
    assert row["accuracy"] is None
    store(cloud, 1, 20, RIGHT, reason="audit", probability=0.1)
    measurer(cloud).next()
    [row] = views.cameras(cloud.index, NOW, cloud.settings)
    assert row["accuracy"]["ap50"]["value"] == pytest.approx(1.0)
    assert row["accuracy"]["audits"] == 20
    cloud.roster.heard({CAMERA: camera_state(model_id=f"{CAMERA}-2")}, NOW)
    [row] = views.cameras(cloud.index, NOW, cloud.settings)
    assert row["accuracy"] is None
    measurer(cloud).next()
    assert cloud.roster.rows()[0].accuracy is None


def test_cameras_are_measured_in_turn(cloud: CloudState) -> None:
    cloud.enroll("yard", edge="edge-2")
    cloud.roster.heard({"yard": camera_state("yard")}, NOW)
    subject = measurer(cloud)
    told = [subject.next() for _ in range(3)]
    assert [one[0] for one in told if one] == [CAMERA, "yard", CAMERA]


def test_what_cannot_be_read_counts_as_not_measured(cloud: CloudState) -> None:
    [row] = cloud.roster.rows()
    assert read_measured(replace(row, accuracy="{}")) is None
    assert read_measured(replace(row, accuracy="\x00")) is None


def test_a_camera_is_measured_again_only_when_the_teacher_saw_more_of_it(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(cloud, 1, 20, RIGHT, reason="audit", probability=0.1)
    subject, measured = measurer(cloud), []
    whole = subject.measure
    monkeypatch.setattr(subject, "measure", lambda *told: (measured.append(told), whole(*told))[1])
    first, again = subject.next(), subject.next()
    assert first == again
    assert len(measured) == 1
    store(cloud, 30, 1, RIGHT, reason="audit", probability=0.1)
    subject.next()
    assert len(measured) == 2


def test_a_camera_that_breaks_the_measure_holds_up_no_other(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.enroll("yard", edge="edge-2")
    cloud.roster.heard({"yard": camera_state("yard", model_id="yard-1")}, NOW)
    subject = measurer(cloud)

    def broken(camera: str, *_: object) -> None:
        if camera == CAMERA:
            raise ValueError("rotten")

    monkeypatch.setattr(subject, "measure", broken)
    with pytest.raises(ValueError, match="rotten"):
        subject.next()
    told = subject.next()
    assert told is not None
    assert told[0] == "yard"
