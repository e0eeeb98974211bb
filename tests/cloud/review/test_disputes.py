from __future__ import annotations

from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import disputes
from culling.cloud.store.people.reviews import Said
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, PERSON, by_number, number, rows

Reviewed = tuple[CloudState, Desk]


def test_frames_on_which_both_agree_are_in_no_dispute(reviewed: Reviewed) -> None:
    _, desk = reviewed
    assert sorted(number(one.frame) for one in disputes(desk, CAMERA)) == [1, 3, 5, 7, 9]


def test_the_most_disputed_comes_first_and_says_why(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    nothing_right = detections((40, 2, 60, 30, 0.9, 0), (2, 30, 20, 46, 0.7, 2))
    cloud.lifecycle.label({by_number(cloud)[4].id: nothing_right})
    first, second, *_ = disputes(desk, CAMERA)
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
    assert sorted(number(one.frame) for one in disputes(desk, CAMERA)) == [5, 7, 9]


def test_the_student_in_use_is_asked_where_it_looked(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    live = cloud.publisher.publish(CAMERA, cloud.artefact(turns=1), "manual")
    frames = by_number(cloud)
    cloud.lifecycle.score(live.model_id, {frames[1].id: detections(PERSON, CAR), frames[2].id: detections(CAR)})
    found = {number(one.frame): one for one in disputes(desk, CAMERA)}
    assert sorted(found) == [2, 3, 5, 7, 9]
    assert found[2].model == live.model_id
    assert rows(found[2].found) == rows(detections(CAR))
    assert found[3].model == "gate-1"
