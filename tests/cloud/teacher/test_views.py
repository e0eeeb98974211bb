from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.teacher.views import View, Window, parse_view, to_whole, windows
from culling.common.frame import Detections


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("whole", View()),
        ("flip", View(flip=True)),
        ("tiles 3x2", View(3, 2)),
        (" scale  1.5 ", View(scale=1.5)),
    ],
)
def test_a_view_is_written_as_it_is_said(text: str, view: View) -> None:
    assert parse_view(text) == view


@pytest.mark.parametrize("text", ["", "tile 2x2", "tiles 0x2", "tiles 2", "tiles 10x10", "scale 0", "scale 9", "half"])
def test_any_other_text_is_answered_with_what_a_view_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no view; write `whole`, `flip`, `tiles 2x2`"):
        parse_view(text)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(64, 2000), st.integers(64, 2000))
def test_tiles_cover_the_frame_and_stay_inside(columns: int, rows: int, height: int, width: int) -> None:
    seen = np.zeros((height, width), np.bool_)
    for part in windows(View(columns, rows), height, width):
        assert part.left >= 0
        assert part.left + part.width <= width
        assert part.top >= 0
        assert part.top + part.height <= height
        seen[part.top : part.top + part.height, part.left : part.left + part.width] = True
    assert seen.all()


def test_neighbouring_tiles_overlap() -> None:
    left, right = windows(View(2, 1), 100, 200)
    assert (left.region, right.region) == ((0, 0, 120, 100), (80, 0, 200, 100))


def boxes(*rows: tuple[float, float, float, float]) -> Detections:
    return Detections(np.array(rows, np.float32), np.full(len(rows), 0.5, np.float32), np.zeros(len(rows), np.int64))


def test_boxes_come_back_in_pixels_of_the_frame() -> None:
    found = to_whole(boxes((10, 20, 30, 40)), Window(100, 50, 120, 80), View(2, 2), 130, 220)
    assert found.boxes.tolist() == [[110, 70, 130, 90]]


def test_a_mirrored_box_is_mirrored_back() -> None:
    found = to_whole(boxes((10, 20, 30, 40)), Window(0, 0, 200, 100), View(flip=True), 100, 200)
    assert found.boxes.tolist() == [[170, 20, 190, 40]]


def test_what_a_tile_cuts_through_is_left_to_its_neighbour_but_the_frames_own_edge_cuts_nothing() -> None:
    tile = Window(80, 0, 120, 100)
    found = to_whole(boxes((1, 20, 30, 40), (90, 20, 120, 40), (40, 0, 60, 100)), tile, View(2, 1), 100, 200)
    assert found.boxes[:, 0].tolist() == [170, 120]
