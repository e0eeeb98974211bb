from __future__ import annotations

from culling.common.profile.thinner import Thinner


def kept(max_fps: float, times: list[float]) -> list[float]:
    thinner = Thinner(max_fps)
    return [at for at in times if thinner.wants(at)]


def test_zero_lets_all_through() -> None:
    assert kept(0, [0, 0, 0.001, 5]) == [0, 0, 0.001, 5]


def test_frames_are_kept_evenly() -> None:
    assert kept(2, [number / 10 for number in range(20)]) == [0, 0.5, 1.0, 1.5]


def test_a_rate_that_does_not_divide_is_kept_on_average() -> None:
    assert len(kept(10, [number / 25 for number in range(250)])) == 100


def test_a_slower_camera_loses_nothing() -> None:
    times = [number / 5 for number in range(20)]
    assert kept(10, times) == times


def test_after_a_pause_there_is_no_burst() -> None:
    assert kept(1, [0, 100, 100.1, 100.2, 100.9, 101]) == [0, 100, 101]
