from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.annotations.lines import Label
from culling.cloud.study.day.plate import LEAST_NOISE, Picture, Standing, moving, plate, standing, unrest
from culling.cloud.weights.classes import CLASSES
from support.scenes import boxes_at

WIDTH, HEIGHT = 64, 48
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")
PARKED = (40.0, 4.0, 60.0, 14.0)
Row = tuple[float, float, float, float, float, int]


def ground() -> Picture:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([90 + columns % 7, 100 + rows % 5, 95 + (rows + columns) % 3], -1).astype(np.uint8)


def told(number: int, *rows: Row) -> Label:
    return Label("yard.mp4", number, WIDTH, HEIGHT, boxes_at(*rows), "")


def test_what_is_in_its_place_in_half_of_the_frames_stands_there() -> None:
    parked: Row = (*PARKED, 0.9, CAR)
    (found,) = standing([told(number, *([parked] if number % 2 else [])) for number in range(10)])
    assert (CLASSES[found.label], found.score, found.box.tolist()) == ("car", 1.0, list(PARKED))
    assert not standing([told(number, *([parked] if number % 3 == 0 else [])) for number in range(12)])


def test_a_thing_whose_labels_tremble_stands_at_their_median() -> None:
    draw = np.random.default_rng(1)
    rows = [told(number, (*(np.array(PARKED) + draw.uniform(-0.5, 0.5, 4)), 0.8, CAR)) for number in range(15)]
    (found,) = standing(rows)
    assert found.box == pytest.approx(np.array(PARKED), abs=0.4)


def test_one_that_most_labels_doubt_is_doubtful() -> None:
    rows = [told(number, (*PARKED, 0.9 if number < 4 else 0.2, CAR)) for number in range(10)]
    assert [one.score for one in standing(rows)] == [0.3]


def test_a_thing_of_two_classes_is_of_the_one_in_which_it_is_surely_seen_most_often() -> None:
    truck = CLASSES.index("truck")
    rows = [
        told(
            number, (*PARKED, 0.8, truck), (*PARKED, 0.8 if number < 7 else 0.2, CAR), (4.0, 30.0, 14.0, 46.0, 0.8, CAR)
        )
        for number in range(10)
    ]
    assert {(one.label, one.score) for one in standing(rows)} == {(truck, 1.0), (CAR, 0.3), (CAR, 1.0)}
    assert [one.score for one in standing(rows) if one.box[0] == PARKED[0] and one.label == CAR] == [0.3]


def test_two_things_that_stand_beside_each_other_are_two() -> None:
    other = (4.0, 30.0, 14.0, 46.0)
    found = standing([told(number, (*PARKED, 0.9, CAR), (*other, 0.9, CAR)) for number in range(6)])
    assert sorted(one.box.tolist() for one in found) == [list(other), list(PARKED)]


@given(st.integers(0, 10_000), st.integers(0, 6))
def test_a_box_moves_unless_it_lies_where_something_stands(seed: int, count: int) -> None:
    corner = np.random.default_rng(seed).uniform(0, 30, (count, 2))
    row = told(0, *((x, y, x + 9, y + 9, 0.9, CAR) for x, y in corner), (*PARKED, 0.9, PERSON))
    stands = [Standing(CAR, np.array(PARKED, np.float32), 1.0)]
    assert moving(row, stands).tolist() == [True] * count + [False]
    assert moving(row, []).all()


def test_where_things_pass_in_most_frames_the_plate_still_shows_the_ground() -> None:
    pictures, rows = {}, []
    for number in range(40):
        frame, x = ground(), number
        frame[20:36, x : x + 24] = (200, 40, 40)
        pictures[number] = frame
        rows.append(told(number, (x, 20, x + 24, 36, 0.9, CAR)))
    plain = np.median(np.stack(list(pictures.values())), 0)
    assert np.abs(plain[28, 24:36] - ground()[28, 24:36]).max() > 50, "a plain median would show the car"
    assert not standing(rows)
    assert (plate(pictures, rows, []) == ground()).all()


def test_what_stands_stays_on_the_plate() -> None:
    pictures, rows = {}, []
    for number in range(6):
        frame = ground()
        frame[4:14, 40:60] = (150, 150, 160)
        pictures[number], row = frame, told(number, (*PARKED, 0.9, CAR))
        rows.append(row)
    assert (plate(pictures, rows, standing(rows)) == pictures[0]).all()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_without_anything_that_moves_the_plate_is_the_median(seed: int, half: int) -> None:
    draw, count = np.random.default_rng(seed), 2 * half + 1
    pictures = {number: draw.integers(0, 256, (33, 20, 3)).astype(np.uint8) for number in range(count)}
    rows = [Label("yard.mp4", number, 20, 33, boxes_at(), "") for number in pictures]
    made = plate(pictures, rows, [])
    assert made.dtype == np.uint8
    assert (made == np.median(np.stack(list(pictures.values())), 0)).all()


@pytest.mark.parametrize("deviation", [1.5, 3.0, 5.0])
def test_the_noise_is_measured_where_nothing_moves(deviation: float) -> None:
    draw, pictures = np.random.default_rng(2), {}
    for number in range(60):
        noisy = ground() + draw.normal(0, deviation, (HEIGHT, WIDTH, 3))
        noisy[:, 32:] = draw.integers(0, 256, (HEIGHT, 32, 3))  # leaves in the wind
        pictures[number] = np.rint(noisy).clip(0, 255).astype(np.uint8)
    assert unrest(pictures, ground()) == pytest.approx(deviation, rel=0.15)


def test_no_camera_is_without_noise() -> None:
    assert unrest({0: ground(), 1: ground()}, ground()) == LEAST_NOISE
