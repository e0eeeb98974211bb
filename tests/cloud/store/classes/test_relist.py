"""A camera gets another class list: which labels go on counting, which wait on the shelf, and what is asked again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.store.classes import relist as stage
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.index import frames, shelf
from culling.cloud.store.lifecycle import enter_labels
from culling.cloud.store.people.reviews import Reviews, Said
from culling.cloud.weights.classes import CLASSES
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections, hard_frame, held_out
from support.rounds import EDGE

SHOP = ("bottle", "person")
SEQS = range(1, 11)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll()
    for seq in SEQS:
        state.frames.add(EDGE, *hard_frame(seq))
    state.lifecycle.label({name(seq): detections((1, 1, 20, 20, 0.9, 0), (2, 2, 30, 30, 0.8, 2)) for seq in SEQS})
    yield state
    state.close()


def name(seq: int) -> str:
    return frame_id(EDGE, "boot-1", seq)


def frame(cloud: CloudState, seq: int) -> StoredFrame:
    [found] = cloud.frames.get([name(seq)])
    return found


def told(one: StoredFrame) -> list[str]:
    assert one.labels is not None
    return [one.classes[label] for label in one.labels.labels]


def change(cloud: CloudState, *names: str) -> None:
    assert relist(cloud.index, CAMERA, names, cloud.clock.now()) is not None


def test_a_camera_has_the_first_list_until_another_comes_into_force(cloud: CloudState) -> None:
    assert ClassLists(cloud.index).of(CAMERA) == CLASSES
    assert ClassLists(cloud.index).since() == {}
    assert relist(cloud.index, CAMERA, CLASSES, 1.0) is None
    change(cloud, *SHOP)
    assert ClassLists(cloud.index).all() == {CAMERA: SHOP}
    assert list(ClassLists(cloud.index).since()) == [CAMERA]


def test_labels_go_on_counting_where_their_list_has_every_class_of_the_new_one(cloud: CloudState) -> None:
    change(cloud, "car", "person")
    found = frame(cloud, 1)
    assert found.classes == ("car", "person")
    assert told(found) == ["person", "car"]
    assert found.labels is not None
    assert found.labels.labels.tolist() == [1, 0], "they are read by the new list"
    assert cloud.frames.counts()[CAMERA].asking == 0


def test_a_class_that_is_not_wanted_any_more_is_read_no_more(cloud: CloudState) -> None:
    change(cloud, "car")
    assert told(frame(cloud, 1)) == ["car"]
    assert frame(cloud, 1).detections.labels.tolist() == [], "the student had seen a person"


def test_no_box_of_a_class_that_nobody_asked_for_is_no_truth(cloud: CloudState) -> None:
    change(cloud, *SHOP)
    assert all(frame(cloud, seq).labels is None for seq in SEQS)
    assert cloud.frames.counts()[CAMERA].asking == len(SEQS)
    assert frame(cloud, 1).detections.labels.tolist() == [1], "what a student found is translated"


def test_labels_come_back_with_their_list(cloud: CloudState) -> None:
    change(cloud, *SHOP)
    cloud.lifecycle.label({name(1): detections((5, 5, 9, 9, 0.7, 0))})
    assert told(frame(cloud, 1)) == ["bottle"]
    change(cloud, *CLASSES)
    assert told(frame(cloud, 1)) == ["person", "car"]
    change(cloud, *SHOP)
    assert told(frame(cloud, 1)) == ["bottle"], "nothing is asked twice"
    assert frame(cloud, 2).labels is None


def test_what_a_person_said_waits_with_the_labels(cloud: CloudState) -> None:
    reviews = Reviews(cloud.index)
    said = {name(1): Said("corrected", detections((3, 3, 8, 8, 1.0, 4)))}
    reviews.enter(CAMERA, said, "ann", 5.0, lambda count: None)
    change(cloud, *SHOP)
    assert reviews.of(CAMERA, [name(1)]) == {}
    cloud.lifecycle.label({name(1): detections((5, 5, 9, 9, 0.7, 0))})
    assert told(frame(cloud, 1)) == ["bottle"], "the teacher may label it anew"
    change(cloud, *CLASSES)
    assert told(frame(cloud, 1)) == ["bus"]
    review = reviews.of(CAMERA, [name(1)])[name(1)]
    assert (review.who, review.at) == ("ann", 5.0)
    assert review.teacher is not None
    assert review.teacher.labels.tolist() == [0, 2]


def test_labels_for_a_list_that_is_over_by_then_are_dropped(cloud: CloudState) -> None:
    change(cloud, *SHOP)
    with cloud.index.write() as connection:
        late = {name(1): detections((1, 1, 9, 9, 0.9, 0)), name(2): detections((1, 1, 9, 9, 0.9, 2))}
        lists = {name(1): CLASSES, name(2): ("person", "cup", "bottle")}
        assert enter_labels(connection, late, 9.0, lists) == 1
    assert frame(cloud, 1).labels is None
    assert told(frame(cloud, 2)) == ["bottle"], "a longer list says enough"


def test_of_the_history_the_newest_judges_and_the_last_day_are_asked_again(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "ASKED_AGAIN", 1)
    with cloud.index.write() as connection:
        old = frames.update().where(frames.c.id == name(next(seq for seq in SEQS if not held_out(seq))))
        connection.execute(old.values(received=1.0))
    change(cloud, *SHOP)
    with cloud.index.read() as connection:
        query = sa.select(frames.c.id).where(frames.c.round.is_(None))
        asked = set(connection.execute(query).scalars())
    judges = [seq for seq in SEQS if held_out(seq)]
    assert len(judges) > 1
    learnt = [seq for seq in SEQS if not held_out(seq)][1:]
    assert asked == {name(seq) for seq in (*judges[-1:], *learnt)}


def test_a_frame_that_goes_takes_its_shelf_with_it(cloud: CloudState) -> None:
    change(cloud, *SHOP)
    cloud.frames.remove(CAMERA, [name(1)])
    with cloud.index.read() as connection:
        left = set(connection.execute(sa.select(shelf.c.frame)).scalars())
    assert left == {name(seq) for seq in SEQS if seq != 1}
