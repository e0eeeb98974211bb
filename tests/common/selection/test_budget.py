"""Budgets per window and per day, in frames and bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.clock import DAY_S
from culling.common.selection.budget import ASSUMED_BYTES, Budget, Spent

MIDNIGHT = 19_700 * DAY_S


def opened(budget: Budget, at: float = MIDNIGHT) -> Budget:
    budget.advance(at)
    return budget


def test_a_window_has_room_for_its_frames_and_no_more() -> None:
    budget = opened(Budget(60.0, frames_per_window=3))
    assert budget.room == 3
    budget.spend(2)
    assert budget.room == 1
    budget.spend()
    assert budget.room == 0


def test_windows_that_are_closed_a_little_late_keep_their_rhythm() -> None:
    budget = opened(Budget(60.0, frames_per_window=3))
    budget.advance(MIDNIGHT + 59.9)
    assert not budget.over
    budget.advance(MIDNIGHT + 61.0)
    assert budget.over
    budget.spend(3)
    budget.close()
    assert (budget.start, budget.room) == (MIDNIGHT + 60.0, 3)
    budget.advance(MIDNIGHT + 60.0 * 10 + 7.0)
    budget.close()
    assert budget.elapsed == pytest.approx(7.0)


def test_a_clock_that_steps_back_stops_the_window_for_a_moment_only() -> None:
    budget = opened(Budget(60.0, frames_per_window=3))
    budget.advance(MIDNIGHT + 30.0)
    budget.advance(MIDNIGHT - 1e6)
    assert budget.elapsed == 30.0
    budget.advance(MIDNIGHT - 1e6 + 30.0)
    assert budget.over


def test_a_cut_window_allows_its_part_and_the_next_owes_the_excess() -> None:
    budget = opened(Budget(60.0, frames_per_window=10))
    budget.spend(7)
    budget.advance(MIDNIGHT + 30.0)
    budget.cut()
    assert (budget.limit, budget.room) == (5, 0)
    budget.close()
    assert budget.room == 8


def test_frames_per_day_are_spread_over_the_windows_left() -> None:
    budget = opened(Budget(3600.0, frames_per_window=40, frames_per_day=48))
    assert budget.room == 2
    for hour in range(1, 13):  # quiet hours leave their share to the later ones
        budget.advance(MIDNIGHT + hour * 3600.0)
        budget.close()
    assert budget.room == 4
    budget.spend(4)
    budget.advance(MIDNIGHT + 23 * 3600.0)
    budget.close()
    assert budget.room == 40


def test_a_new_day_brings_a_new_budget() -> None:
    budget = opened(Budget(3600.0, 40, frames_per_day=5), MIDNIGHT + DAY_S - 10)
    budget.spend(5)
    budget.advance(MIDNIGHT + DAY_S - 1)
    assert budget.room == 0
    budget.advance(MIDNIGHT + DAY_S + 3600.0)
    budget.close()
    assert budget.room == 1


def test_bytes_count_as_the_largest_frame_until_their_size_is_known() -> None:
    budget = opened(Budget(DAY_S / 2, 40, bytes_per_day=10 * ASSUMED_BYTES))
    assert budget.room == 5, "half of what the day allows, in the first of two windows"
    budget.spend(4)
    assert budget.room == 1
    for size in (1000, 2000, 0, 1000):  # one was lost
        budget.note_bytes(size)
    budget.advance(MIDNIGHT + DAY_S / 2)
    budget.close()
    assert budget.room == 40, "by bytes there is room for (10 · 262144 - 4000) // 2000 frames"
    budget.spend()
    budget.note_bytes(10 * ASSUMED_BYTES)
    budget.advance(MIDNIGHT + DAY_S / 2 + 1.0)
    assert budget.room == 0


def test_what_left_before_a_restart_counts_on_its_own_day_only() -> None:
    day = int(MIDNIGHT // DAY_S)
    same = opened(Budget(DAY_S, 40, frames_per_day=10, spent=Spent(day, frames=7, bytes=0)))
    assert same.room == 3
    assert opened(Budget(DAY_S, 40, frames_per_day=10, spent=Spent(day - 1, frames=7, bytes=0))).room == 10
    by_bytes = opened(Budget(DAY_S, 40, bytes_per_day=10 * ASSUMED_BYTES, spent=Spent(day, 1, 8 * ASSUMED_BYTES)))
    assert by_bytes.room == 2


@given(
    st.lists(st.tuples(st.floats(0.0, 4000.0), st.integers(0, 60), st.booleans()), max_size=60),
    st.integers(0, 500),
    st.integers(1, 40),
)
def test_no_day_and_no_window_gets_more_than_its_limit(
    steps: list[tuple[float, int, bool]], per_day: int, per_window: int
) -> None:
    budget = opened(Budget(3600.0, per_window, frames_per_day=per_day))
    at, spent_today, spent_in_window = MIDNIGHT, 0, 0
    for seconds, wanted, close in steps:
        day = at // DAY_S
        at += seconds
        spent_today *= at // DAY_S == day
        budget.advance(at)
        if close and budget.over:
            budget.close()
            spent_in_window = 0
        frames = min(wanted, budget.room)
        budget.spend(frames)
        spent_today += frames
        spent_in_window += frames
        assert spent_today <= per_day
        assert spent_in_window <= per_window


def test_another_limit_holds_from_this_window_on() -> None:
    budget = Budget(window_s=100, frames_per_window=10)
    budget.allow(4)
    budget.advance(0.0)
    budget.spend(3)
    assert budget.room == 1
    budget.allow(8)
    assert budget.room == 5
    budget.allow(2)
    assert budget.room == 0
    budget.advance(100.0)
    budget.close()
    assert budget.room == 1  # it owes what the last one spent above its limit


def test_another_limit_never_breaks_that_of_the_day() -> None:
    budget = Budget(window_s=DAY_S / 2, frames_per_window=10, frames_per_day=6)
    budget.advance(0.0)
    assert budget.room == 3
    budget.allow(1000)
    budget.spend(budget.room)
    budget.advance(DAY_S / 2)
    budget.close()
    budget.allow(1000)
    budget.spend(budget.room)
    assert budget.room == 0
