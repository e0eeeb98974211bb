from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.compose import LEAST_SIDE, LEAST_VISIBLE, Composer, Laid, painted
from culling.cloud.study.day.sky import Sky
from support.days import FEET, HEIGHT, PERSON, PLAIN, WIDTH, small_cast, under

NUMBERS = (26_000, 30_600, 45_000, 61_234, 80_000, 100_000)

BUSY = range(28_000, 72_000, 401)
SMALL = small_cast()
SIMPLE = Composer(SMALL, 3)
SHARE = st.floats(0, 1)
SKIES = st.builds(
    Sky,
    daylight=SHARE,
    colour=st.tuples(*[st.floats(0.8, 1.2)] * 3),
    sun=SHARE,
    sun_at=st.floats(-1, 1),
    rain=SHARE,
    fog=SHARE,
    lamps=SHARE,
    gain=st.floats(0.6, 1.4),
    knock=st.just((0.0, 0.0)),
)


@pytest.fixture(scope="module")
def composer(cast: Cast) -> Composer:
    return Composer(cast, 5)


def digest(composer: Composer, number: int) -> str:
    frame = composer.frame(number)
    return hashlib.sha256(frame.picture.tobytes() + frame.labels.boxes.tobytes()).hexdigest()


def test_a_frame_is_the_same_in_another_process_and_in_any_order(cast: Cast, tmp_path: Path) -> None:
    (tmp_path / "cast").write_bytes(pickle.dumps(cast))  # only ever read by this test's own child
    code = (
        "import hashlib, pickle, sys; from culling.cloud.study.day.compose import Composer\n"
        f"composer = Composer(pickle.load(open({str(tmp_path / 'cast')!r}, 'rb')), 5)\n"
        "for number in sys.argv[1:]:\n"
        "    frame = composer.frame(int(number))\n"
        "    print(hashlib.sha256(frame.picture.tobytes() + frame.labels.boxes.tobytes()).hexdigest())\n"
    )
    backwards = [str(number) for number in reversed(NUMBERS)]
    told = subprocess.run([sys.executable, "-c", code, *backwards], capture_output=True, text=True, check=True)
    composer = Composer(cast, 5)
    assert told.stdout.split() == [digest(composer, number) for number in reversed(NUMBERS)]


def test_another_seed_is_another_day(cast: Cast, composer: Composer) -> None:
    assert digest(composer, 45_000) != digest(Composer(cast, 6), 45_000)


def test_labels_lie_within_the_picture_and_have_a_size(composer: Composer) -> None:
    for number in range(28_000, 72_000, 1111):
        frame = composer.frame(number)
        height, width = frame.picture.shape[:2]
        boxes = frame.labels.boxes
        assert (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= width).all()
        assert (boxes[:, [1, 3]] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_label_is_the_box_of_what_was_laid_there(composer: Composer) -> None:
    looked_at = 0
    for number in range(28_000, 72_000, 97):
        laid = composer.laid(float(number))
        if len(laid) == 1 and composer.weather.at(float(number)).knock == (0.0, 0.0):
            (one,), frame = laid, composer.frame(number)
            rows, columns = np.nonzero(one.mask > 0.5)
            height, width = frame.picture.shape[:2]
            inside = (rows + one.top >= 0) & (rows + one.top < height)
            inside &= (columns + one.left >= 0) & (columns + one.left < width)
            if inside.mean() < 0.9:
                continue
            y, x = rows[inside] + one.top, columns[inside] + one.left
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert box in frame.labels.boxes.tolist()
            looked_at += 1
    assert looked_at > 3


def test_what_is_nearer_covers_what_is_farther(composer: Composer) -> None:
    for number in range(28_000, 72_000, 333):
        feet = [one.foot for one in composer.laid(float(number))]
        assert feet == sorted(feet)
    assert 0 < LEAST_VISIBLE < 1


def test_the_same_look_is_never_on_the_scene_twice(composer: Composer) -> None:
    for number in range(28_000, 72_000, 333):
        assert len(composer.laid(float(number))) <= len(composer.cast.actors)


def test_night_is_darker_and_noisier_than_day(composer: Composer) -> None:
    night, noon = composer.frame(7_200).picture, composer.frame(45_000).picture
    assert night.mean() < 0.6 * noon.mean()
    assert np.diff(night[45:75, 60:].astype(int), axis=1).std() > np.diff(noon[45:75, 60:].astype(int), axis=1).std()


def test_paint_changes_what_is_within_the_mask_alone() -> None:
    picture, mask = np.full((4, 4, 3), (200, 60, 40), np.uint8), np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 255
    made = painted(picture, mask, 0.8, 1.0)
    assert (made[0] == picture[0]).all()
    assert (made[1, 1] != picture[1, 1]).any()
    assert (painted(picture, mask, 0.0, 1.0) == picture).all()


def filled(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels of a small picture lie in any of the boxes."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    for x1, y1, x2, y2 in boxes.astype(int):
        mask[y1:y2, x1:x2] = True
    return mask


def laid_at(one: Laid) -> tuple[int, int, int, int]:
    """Return the box that the mask of an object fills, cut at the borders of a small picture."""
    rows, columns = (
        np.flatnonzero((one.mask > 0.5).any(1)) + one.top,
        np.flatnonzero((one.mask > 0.5).any(0)) + one.left,
    )
    return (
        max(0, int(columns[0])),
        max(0, int(rows[0])),
        min(WIDTH, int(columns[-1]) + 1),
        min(HEIGHT, int(rows[-1]) + 1),
    )


@settings(max_examples=20)
@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=3), st.integers(0, 50))
def test_a_frame_follows_from_seed_and_number_whatever_was_composed_before(numbers: list[int], seed: int) -> None:
    used = Composer(SMALL, seed)
    before = {number: digest(used, number) for number in numbers}
    assert {number: digest(used, number) for number in reversed(numbers)} == before
    assert digest(Composer(SMALL, seed), numbers[-1]) == before[numbers[-1]]


def test_on_a_plain_day_boxes_hold_all_that_differs_from_the_plate_to_the_pixel() -> None:
    plain, all_seen = under(SIMPLE), 0
    for number in BUSY:
        frame, laid = plain.frame(number), plain.laid(float(number))
        differs = (frame.picture != SMALL.plate).any(-1)
        assert (differs == filled(np.array([laid_at(one) for one in laid] or np.zeros((0, 4)), np.float32))).all()
        assert not (filled(frame.labels.boxes) & ~differs).any()
        if len(frame.labels) == len(laid):
            assert (filled(frame.labels.boxes) == differs).all()
            all_seen += len(laid) > 0
    assert all_seen > 20


def test_one_alone_is_labelled_with_its_own_box_unless_little_of_it_is_in_the_picture() -> None:
    plain, told, left_out = under(SIMPLE), 0, 0
    for number in range(10_000, 28_000, 7):
        if len(laid := plain.laid(float(number))) != 1:
            continue
        (one,), box = laid, laid_at(laid[0])
        wide, high = box[2] - box[0], box[3] - box[1]
        if wide < LEAST_SIDE or wide * high < LEAST_VISIBLE * (one.mask > 0.5).sum():
            assert not len(plain.frame(number).labels)
            left_out += 1
        else:
            labels = plain.frame(number).labels
            assert (labels.boxes.tolist(), labels.labels.tolist()) == ([list(box)], [one.label])
            told += 1
    assert told > 20
    assert left_out > 2


def test_what_passes_keeps_to_the_course_it_was_cut_from() -> None:
    plain = under(SIMPLE)
    for number in BUSY:
        for one in plain.laid(float(number)):
            assert one.foot == FEET[one.label]
            beside = abs(one.place[0] - np.clip(one.place[0], -one.place[3] / 2, WIDTH + one.place[3] / 2))
            assert beside < 4 * 0.7 * one.place[3], "company keeps beside the course"


def test_no_two_stand_in_each_other_but_people_who_walk_close() -> None:
    plain, pairs = under(SIMPLE), 0
    for number in BUSY:
        for one, other in combinations(plain.laid(float(number)), 2):
            if one.label == other.label:  # they are of one size, and on one row
                shared = 1 - abs(one.place[0] - other.place[0]) / one.place[3]
                assert shared <= (0.5 if one.label == PERSON else 0.12) + 1e-9
                pairs += 1
    assert pairs > 50


@settings(max_examples=40)
@given(SKIES, st.sampled_from(BUSY))
def test_light_and_weather_leave_size_type_and_boxes_alone(sky: Sky, number: int) -> None:
    composer, plain = under(SIMPLE, sky), under(SIMPLE).frame(number)
    frame = composer.frame(number)
    assert (frame.picture.shape, frame.picture.dtype) == (SMALL.plate.shape, SMALL.plate.dtype)
    assert (frame.labels.boxes == plain.labels.boxes).all()
    assert (frame.labels.labels == plain.labels.labels).all()


@settings(max_examples=30)
@given(SKIES, st.floats(1, 2), st.sampled_from(BUSY))
def test_more_exposure_never_makes_a_pixel_darker(sky: Sky, more: float, number: int) -> None:
    longer = under(SIMPLE, sky, gain=sky.gain * more).frame(number)
    assert (under(SIMPLE, sky).frame(number).picture <= longer.picture).all()


@pytest.mark.parametrize("what", ["rain", "fog", "lamps", "sun"])
def test_weather_is_seen_where_there_is_some(what: str) -> None:
    number = next(number for number in BUSY if under(SIMPLE).laid(float(number)))
    without = under(SIMPLE).frame(number).picture
    with_it = under(SIMPLE, **{what: 0.8}).frame(number).picture
    assert (without != with_it).any()


@settings(max_examples=30)
@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.sampled_from(BUSY))
def test_a_knock_moves_picture_and_boxes_alike(across: float, down: float, number: int) -> None:
    still = under(SIMPLE).frame(number)
    moved = under(SIMPLE, PLAIN, knock=(across, down)).frame(number)
    x, y = round(across * WIDTH), round(down * HEIGHT)
    window = np.s_[max(0, y) : HEIGHT + min(0, y), max(0, x) : WIDTH + min(0, x)]
    source = np.s_[max(0, -y) : HEIGHT + min(0, -y), max(0, -x) : WIDTH + min(0, -x)]
    assert (moved.picture[window] == still.picture[source]).all()
    boxes = (still.labels.boxes + np.array([x, y] * 2, np.float32)).clip(0, (WIDTH, HEIGHT) * 2)
    kept = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= LEAST_SIDE
    assert (moved.labels.boxes == boxes[kept]).all()


def test_noise_is_as_strong_as_the_clips_own_by_day_and_twice_that_by_night() -> None:
    noisy = Composer(small_cast(unrest=3.0), 3)
    for daylight, deviation in ((1.0, 3.0), (0.0, 6.0)):
        one, two = under(noisy, daylight=daylight, lamps=0.0), under(SIMPLE, daylight=daylight, lamps=0.0)
        off = [
            one.frame(number).picture.astype(float) - two.frame(number).picture for number in range(10_000, 10_050, 5)
        ]
        assert np.std(off) == pytest.approx(deviation, rel=0.15)
