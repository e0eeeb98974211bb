from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.study.day.cast import Cast, Course, load_cast
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from support.scenes import boxes_at

PARKED = (100.0, 20.0, 130.0, 40.0)


def test_the_plate_has_what_stands_and_nothing_that_moves(cast: Cast) -> None:
    assert np.abs(cast.plate[84:100, 4:150].astype(int) - (92, 98, 90)).max() < 12
    assert np.abs(cast.plate[25:35, 105:125].astype(int) - (150, 150, 160)).max() < 12
    (parked,) = cast.stands
    assert (CLASSES[parked.label], parked.score) == ("car", 1.0)
    assert np.allclose(parked.box, PARKED, atol=1)


def test_each_thing_that_moves_is_one_actor_with_its_course(cast: Cast) -> None:
    assert sorted(CLASSES[actor.label] for actor in cast.actors) == ["car", "person"]
    for actor in cast.actors:
        across, down = actor.course.heading
        assert (across > 60 and abs(down) < 8) if CLASSES[actor.label] == "car" else (down > 40 and abs(across) < 8)
    car = next(actor for actor in cast.actors if CLASSES[actor.label] == "car")
    one, two = car.course.at(1.0), car.course.at(2.0)
    assert two[0] - one[0] == pytest.approx(30, abs=3)


def test_a_course_goes_where_the_labels_had_what_takes_it(cast: Cast) -> None:
    for actor in cast.actors:
        car, looked_at = CLASSES[actor.label] == "car", 0
        for number in range(0, 40, 4):
            box = (6 + 3 * number, 80, 40 + 3 * number, 104) if car else (20, 8 + 2 * number, 31, 34 + 2 * number)
            time = number / 10 - actor.came
            if 0 <= time <= actor.course.seconds and box[2] < 157 and box[3] < 117:
                place = [(box[0] + box[2]) / 2, box[3], box[3] - box[1], box[2] - box[0]]
                assert actor.course.at(time) == pytest.approx(place, abs=0.01)
                looked_at += 1
        assert looked_at > 5


def test_a_course_leaves_the_picture_where_it_was_about_to_and_not_by_more_than_its_size(cast: Cast) -> None:
    for actor in cast.actors:
        places = actor.course.places
        assert (places[:, 0] >= -places[:, 3] / 2 - 0.1).all()
        assert (places[:, 0] <= 160 + places[:, 3] / 2 + 0.1).all()
        assert (places[:, 1] <= 120 + places[:, 2] + 0.1).all()
        assert (np.diff(actor.course.times) > 0).all()
        assert (actor.course.times[0], actor.course.times[-1]) == (0, actor.course.seconds)


@given(st.integers(0, 10_000), st.floats(-5, 30))
def test_on_a_course_nothing_is_where_its_places_do_not_lead(seed: int, time: float) -> None:
    draw = np.random.default_rng(seed)
    course = Course(np.cumsum(draw.uniform(0.1, 5, 5)) - 0.1, draw.uniform(-20, 90, (5, 4)))
    place = course.at(time)
    assert (place >= course.places.min(0) - 1e-9).all()
    assert (place <= course.places.max(0) + 1e-9).all()
    assert course.at(course.times[2]) == pytest.approx(course.places[2])


def test_cuts_are_what_moved_and_nothing_of_the_ground(cast: Cast) -> None:
    car = next(actor for actor in cast.actors if CLASSES[actor.label] == "car")
    assert len(car.cuts) >= 3
    for cut in car.cuts:
        inside = cut.picture[cut.mask > 250].astype(int)
        assert np.abs(inside - (190, 40, 40)).mean() < 20
        rows, columns = np.flatnonzero((cut.mask > 127).any(1)), np.flatnonzero((cut.mask > 127).any(0))
        assert (len(rows), len(columns)) == (pytest.approx(24, abs=3), pytest.approx(34, abs=3))


def test_a_clip_in_which_nothing_moves_is_one_line(street_files: tuple[Path, Path], tmp_path: Path) -> None:
    row = Label("street.mp4", 0, 160, 120, boxes_at((*PARKED, 0.9, 2)), "")
    write_labels(tmp_path / "still.jsonl", [row])
    with pytest.raises(InputError, match=r"nothing that moves in .*street\.mp4 can be cut out"):
        load_cast(street_files[0], tmp_path / "still.jsonl", CLASSES)
