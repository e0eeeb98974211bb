from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.evaluation.matching import compare
from culling.cloud.evaluation.tally import Tally, tallies
from culling.cloud.round.scale import (
    FACTOR,
    FAR,
    PROBED,
    Picture,
    ScaleCurve,
    ScaleTrial,
    Search,
    Size,
    opt_resolution,
    scales,
    search,
)
from culling.common.frame import Detections
from culling.common.scaler import input_size

FULL = [1.0, 2.0, 4.0, 5.0]


def sized(scale: float) -> tuple[int, int]:
    return input_size(640, 352, scale)


SIZED = scales(sized)


def drifting(per_pixel: float) -> Callable[[tuple[int, int]], list[float]]:
    """Losses that all grow by `per_pixel` for each pixel of width that is missing."""
    return lambda size: [loss + per_pixel * (640 - size[1]) for loss in FULL]


def test_the_three_measures_are_sum_mean_and_share_of_the_losses_power() -> None:
    curve = opt_resolution(drifting(1 / 64), scales(sized, max_steps=1), threshold=1e9)
    point = curve.points[1]
    assert point.size == (320, 576)
    assert (point.mse, point.mean) == (pytest.approx(4.0), pytest.approx(1.0))
    assert point.normalised == pytest.approx(1.0 / np.mean(np.square(FULL)))


def test_the_last_scale_before_the_threshold_is_chosen_and_the_curve_shows_the_one_behind() -> None:
    curve = opt_resolution(drifting(1 / 64), SIZED, threshold=5.0, measure="mean")
    means = [point.mean for point in curve.points]
    assert curve.chosen is curve.points[-2]
    assert means[-2] <= 5.0 < means[-1]
    assert means == sorted(means)


def test_full_size_is_kept_when_the_first_step_is_already_too_far() -> None:
    curve = opt_resolution(drifting(1.0), SIZED, threshold=0.1)
    assert (curve.chosen.k, curve.chosen.scale) == (0, 1.0)
    assert len(curve.points) == 2


def test_a_student_that_does_not_care_gets_the_smallest_input_allowed() -> None:
    by_steps = opt_resolution(drifting(0.0), scales(sized, max_steps=4), threshold=0.1)
    assert by_steps.chosen.k == 4
    by_scale = opt_resolution(drifting(0.0), scales(sized, 20, 0.5), threshold=0.1)
    assert by_scale.chosen.scale >= 0.5 > by_scale.chosen.scale * FACTOR


def test_sizes_are_multiples_of_the_stride_and_none_is_measured_twice() -> None:
    asked: list[tuple[int, int]] = []

    def losses(size: tuple[int, int]) -> list[float]:
        asked.append(size)
        return FULL

    curve = opt_resolution(losses, scales(lambda scale: input_size(160, 120, scale), max_steps=20), threshold=1.0)
    assert len(set(asked)) == len(asked) == len(curve.points)
    assert all(side % 32 == 0 for size in asked for side in size)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=20), st.floats(0.01, 100))
def test_one_threshold_serves_cameras_with_few_objects_and_with_many(losses: list[float], crowd: float) -> None:
    def seen(times: float) -> ScaleCurve:
        return opt_resolution(lambda size: [times * loss * (0.2 + size[1] / 800) for loss in losses], SIZED, 0.1)

    assert seen(crowd).chosen.k == seen(1.0).chosen.k


def test_frames_that_are_all_alike_still_allow_a_smaller_input() -> None:
    curve = opt_resolution(lambda size: [5 + size[1] / 640] * 3, SIZED, threshold=0.1)
    assert curve.chosen.k == 8


def test_a_student_that_sees_nothing_at_full_size_may_see_nothing_at_another() -> None:
    assert opt_resolution(lambda size: [float(size[1] < 640)] * 3, SIZED, threshold=1.0).chosen.k == 0
    assert opt_resolution(lambda size: [0.0] * 3, SIZED, threshold=0.0).chosen.k == 8


def test_without_frames_the_full_size_is_kept() -> None:
    curve = opt_resolution(lambda size: [], SIZED, threshold=1.0)
    assert [point.k for point in curve.points] == [0]
    assert curve.chosen.size == (352, 640)


# By labels

BOXES = np.float32([[at * 60, 10, at * 60 + 40, 90] for at in range(10)])
TRUTH = Detections(BOXES, np.ones(10, np.float32), np.zeros(10, np.int64))


@dataclass
class Yard:
    """Frames of ten people, whom a student sees `off` by so much of their width at an input of that width.

    `sure` is the score that it gives them there. Counts the pictures that were decoded, and the passes by width.
    """

    off: Callable[[int], float] = lambda width: 0.0
    sure: Callable[[int], float] = lambda width: 0.8
    frames: int = 40
    moments: int = 10
    decoded: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def search(self, tolerance: float = 0.01, threshold: float = 0.05) -> Search:
        blocks = [at * self.moments // self.frames for at in range(self.frames)]
        trial = ScaleTrial(
            blocks, self._pictures, self._find, lambda found: float(found.scores.sum()), _tally, {0: "person"}
        )
        return search(trial, SIZED, threshold, tolerance)

    def _pictures(self, chosen: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        for at in chosen:
            self.decoded.append(at)
            yield at, np.zeros((1, 1, 3), np.uint8)

    def _find(self, picture: Picture, size: Size) -> Detections:
        self.passes.append(size[1])
        boxes = BOXES + np.float32([40 * self.off(size[1]), 0, 40 * self.off(size[1]), 0])
        return Detections(boxes, np.full(10, self.sure(size[1]), np.float32), np.zeros(10, np.int64))


def _tally(at: int, found: Detections) -> list[Tally]:
    return tallies(compare(found, TRUTH, 0.4, 0.1), 1)


def test_by_labels_the_smallest_input_is_chosen_where_nothing_is_lost() -> None:
    found = Yard().search()
    assert found.chosen == found.points[-1]
    assert found.chosen.k == max(SIZED)
    assert found.why.startswith("scale 0.43: AP50 +0.000, AP50:95 +0.000 on 40")


def test_a_crowd_that_keeps_its_loss_while_its_boxes_go_wrong_keeps_its_size() -> None:
    yard = Yard(off=lambda width: 0.0 if width >= 576 else 0.4)
    found = yard.search()
    assert all(point.normalised == 0 for point in found.points)
    assert found.chosen.size[1] == 576
    assert opt_resolution(lambda size: [8.0] * 40, SIZED, 0.05).chosen.k == max(SIZED), "the paper's way sees nothing"


def test_a_scale_that_passes_beyond_one_that_failed_is_found() -> None:
    found = Yard(off=lambda width: 0.4 if 400 < width < 640 else 0.0).search()
    assert found.chosen == found.points[-1]
    widths = [point.size[1] for point in found.points]
    assert [verdict.passed for verdict in found.verdicts] == [width <= 400 or width == 640 for width in widths]


def test_a_picture_is_decoded_once_and_the_cost_is_told() -> None:
    yard = Yard()
    found = yard.search()
    assert sorted(yard.decoded) == list(range(40))
    full = 352 * 640
    assert found.passes == pytest.approx(40 * sum(size[0] * size[1] for _, size in SIZED.values()) / full)


def test_where_the_loss_is_another_altogether_only_some_frames_are_seen() -> None:
    yard = Yard(sure=lambda width: 0.8 if width >= 512 else 0.01)
    found = yard.search()
    assert min(point.size[1] for point in found.points) >= 512
    assert yard.passes.count(320) <= PROBED
    assert FAR * 0.05 < ((0.8 - 0.01) / 0.8) ** 2


def test_few_frames_keep_the_full_size_and_cost_no_pass() -> None:
    for yard in (Yard(frames=12), Yard(moments=3)):
        found = yard.search()
        assert (found.chosen.k, found.passes, yard.passes) == (0, 0.0, [])
        assert "cannot tell what a smaller input costs" in found.why


def test_what_cannot_be_read_is_left_out() -> None:
    @dataclass
    class Rotten(Yard):
        def _pictures(self, chosen: Sequence[int]) -> Iterator[tuple[int, Picture]]:
            return super()._pictures([at for at in chosen if at % 4])

    found = Rotten().search()
    assert found.why.endswith("on 30 labelled frames")
    assert all(not point.mse for point in found.points)


def test_a_camera_whose_pictures_are_all_rotten_keeps_its_size() -> None:
    @dataclass
    class Rotten(Yard):
        def _pictures(self, chosen: Sequence[int]) -> Iterator[tuple[int, Picture]]:
            return iter(())

    assert Rotten().search().chosen.k == 0


def test_the_stage_s_result_has_a_verdict_on_every_point() -> None:
    told = Yard(off=lambda width: 0.0 if width >= 576 else 0.4).search().told()
    assert told["size"] == (320, 576)
    assert [point["passed"] for point in told["curve"]] == [True, True] + [False] * (len(told["curve"]) - 2)
    assert told["curve"][-1]["ap50"] < -0.1
    assert {"scale_why", "scale_passes", "scale"} <= told.keys()
    assert Yard(frames=3).search().told()["curve"][0]["passed"] is None
