"""What stands in a place that its camera ignores counts nowhere: neither as right nor as wrong, nor as an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from culling.cloud.evaluation.ignored import compare_on, counted, outside
from culling.cloud.page import views
from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import disputes
from culling.cloud.review.export import chosen, export
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.people.reviews import Said
from culling.cloud.weights.classes import CLASSES
from culling.common.wire.ignored import place
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import desk_of, rows
from support.rounds import context_of
from support.stored import add, everything

RIGHT = place(((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)), ("car",))
PERSON = (1, 1, 20, 20, 0.9, 0)
PARKED = (40, 20, 60, 40, 0.8, 2)
WALKER = (40, 20, 60, 40, 0.7, 0)
GHOST = (44, 20, 63, 44, 0.6, 2)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    """Two frames in which the teacher sees a parked car; the camera ignored cars there in the first alone."""
    state = CloudState(tmp_path)
    state.enroll()
    add(state, 1, ignored=(RIGHT,))
    add(state, 2)
    state.lifecycle.label({frame.id: detections(PERSON, PARKED, WALKER) for frame in everything(state)})
    yield state
    state.close()


@pytest.fixture
def desk(cloud: CloudState) -> Desk:
    return desk_of(cloud)


def frames(cloud: CloudState) -> tuple[StoredFrame, StoredFrame]:
    first, second = sorted(everything(cloud), key=lambda frame: frame.captured)
    return first, second


def test_labels_there_are_doubtful_and_others_keep_their_score(cloud: CloudState) -> None:
    first, second = frames(cloud)
    assert rows(counted(first, 0.4).labels) == [PERSON, WALKER, (*PARKED[:4], pytest.approx(0.4, abs=1e-4), 2)]
    assert counted(first, 0.4).labels.above(0.4).labels.tolist() == [0, 0]  # type: ignore[union-attr]
    assert counted(second, 0.4) is second


def test_a_detection_there_is_neither_right_nor_wrong(cloud: CloudState) -> None:
    first, second = frames(cloud)
    found = detections(PERSON, GHOST)
    compared = compare_on(first, found, 0.4, 0.1)
    assert rows(compared.found) == [PERSON]
    assert (len(compared.true), len(compared.doubtful)) == (2, 1)
    assert len(compare_on(second, found, 0.4, 0.1).found) == 2
    assert outside(second, found) is found


def test_a_round_learns_it_neither_as_object_nor_as_background(cloud: CloudState) -> None:
    context = context_of(cloud)
    first, second = context.settled(CAMERA, frames(cloud))
    assert [len(context.objects(frame)) for frame in (first, second)] == [2, 3]
    assert first.labels is not None
    assert len(first.labels) == 3, "the doubtful box keeps its place from being background"
    assert first.labels.above(0.4).labels.tolist() == [0, 0]
    assert context.mistakes(first, detections(PERSON, WALKER)).easy
    assert not context.mistakes(second, detections(PERSON, WALKER)).easy
    assert context.hardness(first, detections(PERSON, WALKER)).value == 0.0


def test_only_frames_from_before_it_was_ignored_are_in_dispute_over_it(cloud: CloudState, desk: Desk) -> None:
    found = detections(PERSON, WALKER, GHOST)
    for frame in frames(cloud):
        cloud.lifecycle.score(f"{CAMERA}-1", {frame.id: found})
    first, second = frames(cloud)
    open_ = disputes(desk, CAMERA)
    by_name = {one.frame.id: one for one in open_.frames}
    assert "car" in by_name[second.id].why
    assert first.id not in by_name or "car" not in by_name[first.id].why


def test_an_export_and_the_page_leave_it_out(cloud: CloudState, desk: Desk, tmp_path: Path) -> None:
    done = export(desk, chosen(desk, CAMERA, "all", None), tmp_path / "out", "culling", lambda *_: None)
    assert (done.frames, done.boxes) == (2, 5)
    told = {
        row["id"]: row["teacher"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 9, None, None)
    }
    assert [len(told[frame.id]) for frame in frames(cloud)] == [2, 3]


def test_a_person_s_labels_leave_what_is_ignored_as_it_was_however_often_they_come(
    cloud: CloudState, desk: Desk
) -> None:
    first, _ = frames(cloud)
    said = Said("corrected", detections(PERSON, GHOST))
    for new in ([first.id], []):
        assert desk.reviews.enter(CAMERA, {first.id: said}, "ann", 1.0, lambda _: None) == new
        labels = frames(cloud)[0].labels
        assert rows(labels) == [(*PERSON[:4], 1.0, 0), (*PARKED[:4], 1.0, 2)], "nobody draws there"
    (settled,) = desk.settled(CAMERA, [frames(cloud)[0]])
    assert desk.true(settled.labels or detections()).labels.tolist() == [CLASSES.index("person")]


def test_a_frame_without_labels_stays_without(cloud: CloudState) -> None:
    first, _ = frames(cloud)
    assert counted(replace(first, labels=None), 0.4).labels is None
