from __future__ import annotations

from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import Disputed, disputes
from culling.cloud.store.people.reviews import Said
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, PERSON, by_number, number, rows
from support.stored import add

Reviewed = tuple[CloudState, Desk]


def test_frames_on_which_both_agree_are_in_no_dispute(reviewed: Reviewed) -> None:
    _, desk = reviewed
    assert sorted(number(one.frame) for one in disputes(desk, CAMERA).frames) == [1, 3, 5, 7, 9]


def test_the_most_disputed_comes_first_and_says_why(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    nothing_right = detections((40, 2, 60, 30, 0.9, 0), (2, 30, 20, 46, 0.7, 2))
    cloud.lifecycle.label({by_number(cloud)[4].id: nothing_right})
    first, second, *_ = disputes(desk, CAMERA).frames
    assert number(first.frame) == 4
    assert first.mass > second.mass
    assert first.why == "1 person, 1 car the student has not; 1 person the teacher has not"
    assert second.why == "1 car the student has not"
    assert (second.mass, second.model) == (0.8, "gate-1")


def test_what_a_person_has_looked_at_is_in_dispute_no_more(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    frames = by_number(cloud)
    said = {frames[1].id: Said("skipped"), frames[3].id: Said("student", detections(PERSON))}
    desk.reviews.enter(CAMERA, said, "ann", 5.0, lambda _: None)
    assert sorted(number(one.frame) for one in disputes(desk, CAMERA).frames) == [5, 7, 9]


def test_the_student_in_use_is_asked_where_it_looked(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    live = cloud.publisher.publish(CAMERA, cloud.artefact(turns=1), "manual")
    frames = by_number(cloud)
    cloud.lifecycle.score(live.model_id, {frames[1].id: detections(PERSON, CAR), frames[2].id: detections(CAR)})
    found = {number(one.frame): one for one in disputes(desk, CAMERA).frames}
    assert sorted(found) == [2, 3, 5, 7, 9]
    assert found[2].model == live.model_id
    assert rows(found[2].found) == rows(detections(CAR))
    assert found[3].model == "gate-1"


def test_doubted_boxes_are_no_dispute_and_the_first_of_many_are_those_of_all(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    add(cloud, *range(11, 40), model_id="gate-1")
    frames = by_number(cloud)
    flash = detections(PERSON, (30, 10, 60, 40, 0.5, 2))  # in one frame only, and none beside it has a car
    missed = {seq: detections(PERSON, (30, 10, 60, 40, 0.61 + seq / 100, 2)) for seq in range(20, 30)}
    sees = {frames[seq].id: detections(PERSON) for seq in range(1, 40)}
    cloud.lifecycle.label({**sees, frames[15].id: flash, **{frames[seq].id: one for seq, one in missed.items()}})
    everything = disputes(desk, CAMERA)
    assert [number(one.frame) for one in everything.frames] == list(range(29, 19, -1))
    assert everything.left == 10
    first = disputes(desk, CAMERA, 3)
    assert [one.frame.id for one in first.frames] == [one.frame.id for one in everything.frames[:3]]
    assert first.left >= everything.left, "what nobody asked about may turn out to be doubted"
    desk.reviews.enter(CAMERA, {frames[seq].id: Said("skipped") for seq in missed}, "ann", 1.0, lambda _: None)
    assert disputes(desk, CAMERA, 3) == Disputed([], 0)
