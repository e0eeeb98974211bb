from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.study.day.cut import RIM, Cut, cut, largest, without_holes
from culling.cloud.study.day.plate import Picture

SIZE = (48, 64)
RED = (190, 40, 40)
Mask = NDArray[np.bool_]


def ground() -> Picture:
    return np.random.default_rng(0).integers(90, 110, (*SIZE, 3)).astype(np.uint8)


def box(x1: float, y1: float, x2: float, y2: float) -> NDArray[np.float32]:
    return np.array([x1, y1, x2, y2], np.float32)


def shown(x1: int, y1: int, x2: int, y2: int) -> Picture:
    frame = ground()
    frame[y1:y2, x1:x2] = RED
    return frame


def made_of(frame: Picture, where: NDArray[np.float32], solid: bool = True) -> Cut:
    made = cut(frame, ground(), where, 1.0, 2.5, solid)
    assert made is not None
    return made


def parts(body: Mask) -> list[Mask]:
    """Return the connected parts of a mask, found pixel by pixel."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(body)}, []
    while left:
        part, open_ = np.zeros_like(body), deque([left.pop()])
        while open_:
            y, x = open_.popleft()
            part[y, x] = True
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    open_.append(near)
        found.append(part)
    return found


MASKS = st.builds(
    lambda seed, share, size: np.random.default_rng(seed).random(size) < share,
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
)


@settings(max_examples=60)
@given(MASKS)
def test_the_largest_part_is_the_one_with_most_pixels(body: Mask) -> None:
    found, known = largest(body), parts(body)
    assert int(found.sum()) == max((int(part.sum()) for part in known), default=0)
    assert not known or any((found == part).all() for part in known)


@settings(max_examples=60)
@given(MASKS)
def test_a_hole_is_what_has_no_way_to_the_border(body: Mask) -> None:
    wide = parts(~np.pad(body, 1))
    outside = next(part for part in wide if part[0, 0])[1:-1, 1:-1]
    assert (without_holes(body) == ~outside).all()


@settings(max_examples=25)
@given(st.integers(6, 30), st.integers(6, 22), st.integers(12, 24), st.integers(12, 20), st.booleans())
def test_a_block_is_cut_along_its_edge_and_laid_back_is_the_frame_again(
    x: int, y: int, wide: int, high: int, solid: bool
) -> None:
    frame = shown(x, y, x + wide, y + high)
    made = made_of(frame, box(x, y, x + wide, y + high), solid)
    assert made.picture.shape == (*made.mask.shape, 3)
    assert (made.at, made.height, made.width, made.time) == ((x + wide / 2, y + high), high, wide, 2.5)
    left, top = round(made.at[0] + made.offset[0]), round(made.at[1] + made.offset[1])
    assert (left, top) == (x - RIM, y - RIM)
    rows, columns = np.flatnonzero((made.mask > 127).any(1)), np.flatnonzero((made.mask > 127).any(0))
    for seen, edge in ((rows, (RIM, RIM + high - 1)), (columns, (RIM, RIM + wide - 1))):
        assert (seen[0], seen[-1]) == (pytest.approx(edge[0], abs=1), pytest.approx(edge[1], abs=1))
    again, share = ground().astype(float), made.mask[..., None] / 255
    part = again[top : top + made.mask.shape[0], left : left + made.mask.shape[1]]
    part += share * (made.picture - part)
    off = np.abs(again - frame).max(-1) > 60
    assert off.mean() < 0.03, "but for a seam of a pixel"
    assert not off[y + 2 : y + high - 2, x + 2 : x + wide - 2].any()


def test_the_cut_shows_no_ground_at_its_rim() -> None:
    made = made_of(shown(20, 14, 44, 34), box(20, 14, 44, 34))
    assert np.abs(made.picture[made.mask > 60].astype(int) - RED).mean() < 8


def test_the_frame_itself_is_left_alone() -> None:
    frame = shown(20, 14, 44, 34)
    made = made_of(frame, box(20, 14, 44, 34))
    made.picture[:] = 0
    assert (frame == shown(20, 14, 44, 34)).all()


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ((20, 14, 28, 34), "narrower than 9 pixels"),
        ((1, 14, 25, 34), "cut off at the left"),
        ((40, 14, 63, 34), "cut off at the right"),
        ((20, 1, 44, 21), "cut off above"),
        ((20, 27, 44, 47), "cut off below"),
    ],
)
def test_what_is_small_or_cut_off_by_a_border_is_not_cut_out(where: tuple[int, int, int, int], why: str) -> None:
    assert cut(shown(*where), ground(), box(*where), 1.0, 0.0, True) is None, why


def test_where_nothing_is_or_little_of_what_the_box_says_nothing_is_cut_out() -> None:
    where = box(20, 14, 44, 34)
    assert cut(ground(), ground(), where, 1.0, 0.0, True) is None
    assert cut(shown(20, 14, 32, 34), ground(), where, 1.0, 0.0, True) is None, "half of the box is empty"
    assert cut(shown(20, 14, 44, 24), ground(), where, 1.0, 0.0, False) is None


def test_what_differs_no_more_than_the_noise_is_not_cut_out() -> None:
    frame = np.clip(ground().astype(int), 0, 255)
    frame[14:34, 20:44] += 14
    assert cut(frame.astype(np.uint8), ground(), box(20, 14, 44, 34), 8.0, 0.0, True) is None
    assert cut(frame.astype(np.uint8), ground(), box(20, 14, 44, 34), 0.0, 0.0, True) is not None


def test_a_gap_in_what_is_solid_is_filled_and_in_what_is_not_speaks_of_something_before_it() -> None:
    where, frame = box(20, 10, 44, 38), shown(20, 10, 44, 38)
    frame[16:32, 26:38] = ground()[16:32, 26:38]
    assert (made_of(frame, where).mask[RIM + 3 : RIM + 25, RIM + 3 : RIM + 21] > 127).all()
    assert cut(frame, ground(), where, 1.0, 0.0, False) is None


def test_the_shadow_of_one_who_walks_is_not_cut_with_it() -> None:
    frame = shown(20, 8, 40, 38)
    frame[30:38, 40:44] = (0.7 * ground()[30:38, 40:44]).astype(np.uint8)
    where = box(20, 8, 44, 38)
    shadow = np.s_[RIM + 24 : RIM + 28, RIM + 22 : RIM + 24]
    assert (made_of(frame, where, solid=False).mask[shadow] < 40).all()
    assert (made_of(frame, where, solid=True).mask[shadow] > 127).all()
