from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.round.scale import FACTOR, ScaleCurve, opt_resolution
from culling.common.scaler import input_size

FULL = [1.0, 2.0, 4.0, 5.0]


def sized(scale: float) -> tuple[int, int]:
    return input_size(640, 352, scale)


def drifting(per_pixel: float) -> Callable[[tuple[int, int]], list[float]]:
    """Losses that all grow by `per_pixel` for each pixel of width that is missing."""
    return lambda size: [loss + per_pixel * (640 - size[1]) for loss in FULL]


def test_the_three_measures_are_sum_mean_and_share_of_the_losses_power() -> None:
    curve = opt_resolution(drifting(1 / 64), sized, threshold=1e9, max_steps=1)
    point = curve.points[1]
    assert point.size == (320, 576)
    assert (point.mse, point.mean) == (pytest.approx(4.0), pytest.approx(1.0))
    assert point.normalised == pytest.approx(1.0 / np.mean(np.square(FULL)))


def test_the_last_scale_before_the_threshold_is_chosen_and_the_curve_shows_the_one_behind() -> None:
    curve = opt_resolution(drifting(1 / 64), sized, threshold=5.0, measure="mean")
    means = [point.mean for point in curve.points]
    assert curve.chosen is curve.points[-2]
    assert means[-2] <= 5.0 < means[-1]
    assert means == sorted(means)


def test_full_size_is_kept_when_the_first_step_is_already_too_far() -> None:
    curve = opt_resolution(drifting(1.0), sized, threshold=0.1)
    assert (curve.chosen.k, curve.chosen.scale) == (0, 1.0)
    assert len(curve.points) == 2


def test_a_student_that_does_not_care_gets_the_smallest_input_allowed() -> None:
    by_steps = opt_resolution(drifting(0.0), sized, threshold=0.1, max_steps=4)
    assert by_steps.chosen.k == 4
    by_scale = opt_resolution(drifting(0.0), sized, threshold=0.1, max_steps=20, min_scale=0.5)
    assert by_scale.chosen.scale >= 0.5 > by_scale.chosen.scale * FACTOR


def test_sizes_are_multiples_of_the_stride_and_none_is_measured_twice() -> None:
    asked: list[tuple[int, int]] = []

    def losses(size: tuple[int, int]) -> list[float]:
        asked.append(size)
        return FULL

    curve = opt_resolution(losses, lambda scale: input_size(160, 120, scale), threshold=1.0, max_steps=20)
    assert len(set(asked)) == len(asked) == len(curve.points)
    assert all(side % 32 == 0 for size in asked for side in size)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=20), st.floats(0.01, 100))
def test_one_threshold_serves_cameras_with_few_objects_and_with_many(losses: list[float], crowd: float) -> None:
    def seen(times: float) -> ScaleCurve:
        return opt_resolution(lambda size: [times * loss * (0.2 + size[1] / 800) for loss in losses], sized, 0.1)

    assert seen(crowd).chosen.k == seen(1.0).chosen.k


def test_frames_that_are_all_alike_still_allow_a_smaller_input() -> None:
    curve = opt_resolution(lambda size: [5 + size[1] / 640] * 3, sized, threshold=0.1)
    assert curve.chosen.k == 8


def test_a_student_that_sees_nothing_at_full_size_may_see_nothing_at_another() -> None:
    assert opt_resolution(lambda size: [float(size[1] < 640)] * 3, sized, threshold=1.0).chosen.k == 0
    assert opt_resolution(lambda size: [0.0] * 3, sized, threshold=0.0).chosen.k == 8


def test_without_frames_the_full_size_is_kept() -> None:
    curve = opt_resolution(lambda size: [], sized, threshold=1.0)
    assert [point.k for point in curve.points] == [0]
    assert curve.chosen.size == (352, 640)
