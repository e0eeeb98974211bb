from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.compose import LEAST_VISIBLE, Composer, painted

NUMBERS = (26_000, 30_600, 45_000, 61_234, 80_000, 100_000)


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
