from __future__ import annotations

import sys

import numpy as np
import pytest

from culling.cloud.weights.classes import CLASSES
from culling.common.errors import MissingExtraError
from culling.common.frame import Detections
from culling.edge.regions import Regions, ZoneSettings
from culling.edge.tracks import NONE, Tracks

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def found(*told: tuple[str, float, float], score: float = 0.9) -> Detections:
    """Boxes of 20 × 20 in a frame of 200 × 200, each given by its class and where it stands."""
    boxes = np.array([(x - 10, y - 20, x + 10, y) for _, x, y in told], np.float32).reshape(-1, 4)
    labels = np.array([CLASSES.index(label) for label, _, _ in told], np.int64)
    return Detections(boxes, np.full(len(told), score, np.float32), labels)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingExtraError, match=r"camera gate: track cannot be used: .*; pip install 'culling\[tr"):
        Tracks("gate")


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def _package(self) -> None:
        pytest.importorskip(
            "trackers", exc_type=ImportError, reason="trackers is not installed: pip install 'culling[tracks]'"
        )

    def test_objects_keep_their_numbers_as_they_move_and_in_any_order(self) -> None:
        tracks, numbers = Tracks("gate"), []
        for step in range(20):
            both = [("car", 20 + 4 * step, 60), ("car", 180 - 4 * step, 150)]
            told = tracks.update(found(*(both if step % 2 else both[::-1])), step / 10).tolist()
            numbers.append(told if step % 2 else told[::-1])
        assert numbers[0] == [NONE, NONE]
        assert sorted(numbers[1]) == [1, 2]
        assert numbers[1:] == [numbers[1]] * 19

    def test_classes_are_apart_and_numbers_never_come_again(self) -> None:
        tracks = Tracks("gate")
        seen: set[int] = set()
        for step in range(10):
            seen.update(tracks.update(found(("car", 50, 60), ("person", 50, 60)), step / 10).tolist())
        assert seen == {NONE, 1, 2}
        for step in range(100):
            tracks.update(found(), 1 + step / 10)
        for step in range(10):
            seen.update(tracks.update(found(("car", 50, 60)), 20 + step / 10).tolist())
        assert seen == {NONE, 1, 2, 3}
        assert sum(len(known) for known in tracks._numbers.values()) <= 1, "who is gone takes no memory"

    def test_who_is_not_seen_for_a_moment_is_the_same(self) -> None:
        tracks = Tracks("gate")
        for step in range(30):
            numbers = tracks.update(found(*[] if 10 <= step < 14 else [("car", 50 + step, 60)]), step / 10)
        assert numbers.tolist() == [1]

    def test_weak_boxes_begin_nothing(self) -> None:
        tracks = Tracks("gate")
        for step in range(5):
            numbers = tracks.update(found(("car", 50, 60), score=0.3), step / 10)
        assert numbers.tolist() == [NONE]


def entered_and_left(*frames: dict[int, float]) -> tuple[int, int]:
    """Objects by number, each with where it stands across the frame, ten frames a second."""
    regions = Regions((), [ZoneSettings(name="left", polygon=LEFT_HALF)])
    for number, frame in enumerate(frames):
        boxes, tracks = found(*[("car", x, 60) for x in frame.values()]), np.array(list(frame), np.int64)
        _, counts = regions.count(boxes, CLASSES, 200, 200, tracks, number / 10)
    return counts["left"].entered.get("car", 0), counts["left"].left.get("car", 0)


def test_in_a_zone_each_object_enters_and_leaves_once() -> None:
    inside, outside = [{1: 50.0}] * 3, [{1: 150.0}] * 3
    assert entered_and_left(*inside, *outside) == (1, 1)
    assert entered_and_left(*inside, *[{}] * 5, *inside) == (1, 0), "not seen for a moment is not gone"
    assert entered_and_left(*inside, *[{}] * 30) == (1, 1)
    assert entered_and_left(*inside, *[{2: 50.0, 1: 150.0}] * 3) == (2, 1), "one goes as another comes"
    assert entered_and_left(*[{NONE: 50.0}] * 9) == (0, 0)


def test_a_box_that_trembles_on_the_border_of_a_zone_is_nobody_coming_and_going() -> None:
    assert entered_and_left(*[{1: 99.0}, {1: 101.0}, {1: 99.0}, {1: 99.0}, {1: 101.0}] * 10) == (0, 0)
    assert entered_and_left(*[{1: 99.0}] * 3, *[{1: 101.0}, {1: 99.0}] * 10) == (1, 0)
