"""Which frames are skipped: scenes of numbers stand for the pictures, their detections for the student."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.common.frame import Detections
from culling.edge.camera.difference import GRID, KEPT, LEARNING, PROBE, Difference, DifferenceSettings, missing

FRAME_S = 0.1
STILL = ((0, 0, 50, 50, 0.9, 0), (100, 100, 150, 150, 0.6, 2))


def grey(level: float) -> NDArray[np.uint8]:
    return np.full(GRID, level, np.uint8)


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


class Stream:
    """A camera whose pictures are given as a level of grey, and what is found in each."""

    def __init__(self, **settings: float) -> None:
        self.difference = Difference(DifferenceSettings(skip=True, **settings))  # type: ignore[arg-type]
        self.at = 0.0

    def skips(self, level: float, found: Detections, wanted: bool = False) -> bool:
        self.at += FRAME_S
        if self.difference.unchanged(grey(level), self.at, wanted):
            return True
        self.difference.inferred(found)
        return False

    def learn(self, found: Detections, count: int = LEARNING + 1) -> None:
        """Show a still scene, until enough is known of it."""
        for _ in range(count):
            assert not self.skips(100, found)


def test_nothing_is_skipped_before_enough_is_known() -> None:
    stream = Stream()
    stream.learn(boxes(*STILL))
    assert stream.skips(100, boxes(*STILL))


def test_of_a_still_scene_all_but_the_probes_are_skipped() -> None:
    stream = Stream(longest_s=60)
    stream.learn(boxes(*STILL))
    skipped = [stream.skips(100, boxes(*STILL)) for _ in range(100)]
    assert sum(skipped) == 100 - 100 // PROBE


def test_a_picture_that_differs_more_than_any_before_is_inferred() -> None:
    stream = Stream()
    stream.learn(boxes(*STILL))
    assert not stream.skips(103, boxes(*STILL))


def test_differences_that_never_cost_a_box_come_to_be_borne() -> None:
    stream = Stream()
    for frame in range(LEARNING + 1):
        assert not stream.skips(100 + 3 * (frame % 2), boxes(*STILL))
    assert stream.skips(100, boxes(*STILL)), "as large a difference as all before"


@pytest.mark.parametrize(("allowed", "skipped"), [(0.0, False), (0.6, True)])
def test_differences_that_cost_boxes_are_borne_as_far_as_is_allowed(allowed: float, skipped: bool) -> None:
    stream = Stream(lost=allowed)
    for frame in range(LEARNING + 1):
        moved = 200 * (frame % 2)
        found = boxes((moved, 0, moved + 50, 50, 0.9, 0), (0, 100, 50, 150, 0.9, 0))
        assert not stream.skips(100 + frame % 2, found)
    assert stream.skips(101, Detections.empty()) is skipped


def test_a_probe_that_finds_boxes_missing_ends_the_skipping() -> None:
    stream = Stream(lost=0.02, longest_s=60)
    stream.learn(boxes(*STILL))
    new = boxes((300, 300, 350, 350, 0.9, 0))
    skipped = [stream.skips(100, new) for _ in range(2 * PROBE)]
    assert skipped == [True] * (PROBE - 1) + [False] * (PROBE + 1)


def test_no_frame_is_skipped_so_long_after_the_last_one_inferred() -> None:
    stream = Stream(longest_s=3.5 * FRAME_S)
    stream.learn(boxes(*STILL))
    inferred = [at for at in range(60) if not stream.skips(100, boxes(*STILL))]
    assert max(np.diff(inferred)) <= 4


def test_a_frame_that_is_wanted_is_inferred() -> None:
    stream = Stream()
    stream.learn(boxes(*STILL))
    assert not stream.skips(100, boxes(*STILL), wanted=True)
    assert stream.skips(100, boxes(*STILL))


def test_after_a_frame_that_failed_the_next_one_is_inferred_and_teaches_nothing() -> None:
    stream = Stream(lost=0.0)
    stream.learn(boxes(*STILL))
    stream.difference.unchanged(grey(200), stream.at)
    stream.difference.forget()
    assert not stream.skips(100, boxes(*STILL))
    assert stream.skips(100, boxes(*STILL))


def test_a_frame_whose_picture_could_not_be_had_teaches_nothing() -> None:
    stream = Stream(lost=0.0)
    stream.learn(boxes(*STILL))
    stream.difference.forget()
    stream.difference.inferred(boxes(*STILL))
    assert not stream.skips(100, boxes(*STILL))
    assert not stream.skips(140, boxes(*STILL)), "what an unknown difference costs says nothing of this one"


def test_only_the_newest_pairs_are_gone_by() -> None:
    stream = Stream(lost=0.0)
    for frame in range(LEARNING + 1):  # a difference that costs every box
        stream.skips(100 + frame % 2, boxes((200 * (frame % 2), 0, 200 * (frame % 2) + 50, 50, 0.9, 0)))
    assert not stream.skips(100, boxes(*STILL))
    for frame in range(KEPT):
        stream.skips(100 + frame % 2, boxes(*STILL))
    assert any(stream.skips(100 + frame % 2, boxes(*STILL)) for frame in range(PROBE))


def test_missing_boxes_by_hand() -> None:
    standing = boxes((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 1))
    found = boxes((1, 0, 11, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 2), (80, 80, 90, 90, 0.9, 1))
    assert missing(standing, found) == 2
    assert missing(Detections.empty(), found) == 3
    assert missing(standing, Detections.empty()) == 0
