from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.study.day.tracks import MEETS, WIDEST, Track, Tracker, follow
from culling.cloud.weights.classes import CLASSES
from culling.common.frame import Detections, iou
from support.scenes import boxes_at

HEIGHT, WIDTH = 72, 96
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")
Row = tuple[float, float, float, float, float, int]


@dataclass(frozen=True)
class Block:
    """A block of its own look, `high` and `wide`, that moves by `(dx, dy)` a frame from `(x, y)`."""

    x: int
    y: int
    high: int
    wide: int
    dx: int
    dy: int
    label: int = CAR

    def box(self, number: int) -> tuple[float, float, float, float]:
        x, y = self.x + self.dx * number, self.y + self.dy * number
        return float(x), float(y), float(x + self.wide), float(y + self.high)

    def draw(self, grey: NDArray[np.float32], number: int) -> None:
        look = np.random.default_rng([self.x + 200, self.y + 200, self.high]).uniform(20, 200, (self.high, self.wide))
        x1, y1, x2, y2 = (int(edge) for edge in self.box(number))
        grey[y1:y2, x1:x2] = look


def difference(blocks: list[Block], number: int) -> NDArray[np.float32]:
    grey = np.zeros((HEIGHT, WIDTH), np.float32)
    for block in blocks:
        block.draw(grey, number)
    return grey


def tracked(blocks: list[Block], frames: int, every: int) -> list[Track]:
    """Return the tracks of a clip of which every so manieth frame is labelled."""
    tracker = Tracker()
    for number in range(frames):
        tracker.advance(difference(blocks, number))
        if number % every == 0:
            tracker.meet(number, boxes_at(*((*block.box(number), 0.9, block.label) for block in blocks)))
    return tracker.end()


def met(*frames: list[Row]) -> tuple[list[list[Track | None]], list[Track]]:
    """Return what frames are linked to, all of them labelled and nothing to follow between, and the tracks."""
    tracker = Tracker()
    linked = [tracker.meet(number, boxes_at(*rows)) for number, rows in enumerate(frames)]
    return linked, tracker.end()


@settings(max_examples=60)
@given(
    side=st.tuples(st.integers(8, 22), st.integers(8, 22)),
    speed=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
    off=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_what_moves_about_as_before_is_found_to_the_pixel(
    side: tuple[int, int], speed: tuple[int, int], off: tuple[int, int]
) -> None:
    reach = min(WIDEST, max(2, round(0.08 * max(side)) + 1))
    assume(max(abs(off[0]), abs(off[1])) <= reach)
    block = Block(32, 24, side[0], side[1], speed[0] + off[0], speed[1] + off[1])
    moved = follow(
        difference([block], 0), difference([block], 1), np.array(block.box(0), np.float32), np.array(speed, np.float32)
    )
    assert moved.tolist() == [block.dx, block.dy]


@pytest.mark.parametrize(
    "box", [(1, 20, 21, 40), (75, 20, 95, 40), (30, 1, 50, 21), (30, 51, 50, 71), (40, 40, 43, 60), (-60, 0, -40, 20)]
)
def test_at_a_border_and_where_little_is_left_it_goes_on_as_before(box: tuple[int, int, int, int]) -> None:
    speed, grey = np.array([0.5, -0.25], np.float32), np.random.default_rng(0).uniform(0, 99, (HEIGHT, WIDTH))
    grey = grey.astype(np.float32)
    assert follow(grey, grey, np.array(box, np.float32), speed).tolist() == [0.5, -0.25]


@settings(max_examples=20)
@given(speeds=st.lists(st.integers(-2, 2), min_size=3, max_size=3), every=st.integers(1, 5))
def test_each_thing_is_one_track_of_exactly_the_boxes_that_labels_gave_it(speeds: list[int], every: int) -> None:
    lanes = [
        Block(35, 4 + 22 * place, 16, 26, speed, 0, (CAR, PERSON, CAR)[place]) for place, speed in enumerate(speeds)
    ]
    tracks = sorted(tracked(lanes, 16, every), key=lambda track: float(track.boxes[0][1]))
    assert len(tracks) == 3
    for block, track in zip(lanes, tracks, strict=True):
        assert track.frames == list(range(0, 16, every))
        assert [tuple(box) for box in track.boxes] == [block.box(number) for number in track.frames]
        assert track.label == block.label
        assert track.first == 0
        if len(track.frames) > 1:
            assert track.speed.tolist() == pytest.approx([block.dx, block.dy], abs=0.5)


def test_it_is_followed_through_frames_in_which_its_boxes_no_longer_overlap() -> None:
    fast = Block(6, 30, 12, 24, 3, 0)
    assert iou(*(np.array([fast.box(number)], np.float32) for number in (0, 8))).max() == 0
    (track,) = tracked([fast], 17, 8)
    assert track.frames == [0, 8, 16]


def test_two_that_pass_each_other_keep_apart() -> None:
    right, left = Block(10, 20, 16, 24, 2, 0), Block(62, 34, 16, 24, -2, 0, PERSON)
    tracks = tracked([right, left], 21, 4)
    assert sorted(CLASSES[track.label] for track in tracks) == ["car", "person"]
    for track in tracks:
        own = right if track.label == CAR else left
        assert [tuple(box) for box in track.boxes] == [own.box(number) for number in track.frames]
        assert len(track.frames) == 6


def test_a_track_outlives_one_labelled_frame_without_it_and_not_two() -> None:
    here: list[Row] = [(10, 10, 30, 30, 0.9, CAR)]
    _, tracks = met(here, [], here, [], [], here)
    assert [track.frames for track in tracks] == [[0, 2], [5]]


def test_a_low_score_continues_a_track_and_begins_none() -> None:
    sure, doubted, elsewhere = (10, 10, 30, 30, 0.9, CAR), (11, 10, 31, 30, 0.2, CAR), (60, 40, 80, 60, 0.39, CAR)
    linked, tracks = met([sure], [doubted, elsewhere])
    assert linked[1] == [linked[0][0], None]
    assert [track.frames for track in tracks] == [[0, 1]]


def test_its_class_is_the_one_that_scores_speak_for() -> None:
    box = (10.0, 10.0, 30.0, 30.0)
    _, (track,) = met([(*box, 0.9, CAR)], [(*box, 0.5, PERSON)], [(*box, 0.45, PERSON)])
    assert CLASSES[track.label] == "person"


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(0, 8))
def test_no_two_boxes_of_a_frame_are_one_track_and_each_lies_where_its_track_was(
    seed: int, before: int, after: int
) -> None:
    draw = np.random.default_rng(seed)

    def some(count: int) -> Detections:
        corner = draw.uniform(0, 40, (count, 2))
        boxes = np.hstack([corner, corner + draw.uniform(8, 40, (count, 2))]).astype(np.float32)
        return Detections(boxes, draw.uniform(0.05, 1, count).astype(np.float32), draw.integers(0, 2, count))

    tracker, one, two = Tracker(), some(before), some(after)
    known = {id(track): track.box for track in tracker.meet(0, one) if track is not None}
    linked = tracker.meet(1, two)
    own = [track for track in linked if track is not None]
    assert len({id(track) for track in own}) == len(own)
    for track, box, score in zip(linked, two.boxes, two.scores, strict=True):
        if track is None:
            assert score < 0.4
        elif id(track) in known:
            assert iou(known[id(track)][None], box[None])[0, 0] >= MEETS
        else:
            assert track.frames == [1]
    assert {id(track) for track in tracker.end()} == known.keys() | {id(track) for track in own}
