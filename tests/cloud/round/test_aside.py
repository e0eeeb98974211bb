from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.round.aside import BLOCKS, LEAST, MOST, keep_aside

TIMES = st.lists(st.floats(0, 1e6), max_size=300)


def runs(times: list[float], chosen: list[int]) -> int:
    """Return how many stretches of time the chosen frames form."""
    order = np.argsort(times, kind="stable")
    aside = np.isin(order, chosen)
    return int(aside[0]) + int((aside[1:] & ~aside[:-1]).sum())


@given(TIMES)
def test_a_fifth_is_kept_aside_in_a_few_stretches_of_time(times: list[float]) -> None:
    chosen = keep_aside(times)
    if len(times) < LEAST:
        assert chosen == []
        return
    assert len(set(chosen)) == len(chosen) == min(MOST, round(0.2 * len(times)))
    assert all(0 <= index < len(times) for index in chosen)
    assert 1 <= runs(times, chosen) <= BLOCKS


def test_frames_of_one_moment_are_not_divided() -> None:
    bursts = [float(burst * 100 + at) for burst in range(12) for at in range(3)]  # 36 frames, of which 7 are kept aside
    chosen = {round(bursts[index] // 100) for index in keep_aside(bursts)}
    learnt = {round(bursts[index] // 100) for index in range(36) if index not in keep_aside(bursts)}
    assert len(chosen & learnt) <= 2, "seven frames are two whole bursts and a third of one"


def test_the_first_and_the_last_frame_are_learnt_where_any_others_will_do() -> None:
    chosen = keep_aside([float(at) for at in range(60)])
    assert 0 not in chosen
    assert 59 not in chosen


def test_the_order_in_which_frames_are_named_does_not_matter() -> None:
    times = [float(at**2 % 977) for at in range(100)]
    moved = times[40:] + times[:40]
    assert {times[at] for at in keep_aside(times)} == {moved[at] for at in keep_aside(moved)}
