from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.mistakes import mistakes
from culling.cloud.round.choice import GRID, PoolFrame, diverse, places, replayed, strata
from support.scenes import boxes_at

CELLS = 4


def lesson(at: float, worth: float, cell: int = 0, empty: bool = False) -> PoolFrame:
    spread = np.zeros(CELLS)
    spread[cell] = worth
    return PoolFrame(at, worth, spread, empty)


def test_the_frame_of_most_worth_comes_first() -> None:
    lessons = [lesson(100.0 * at, worth, at) for at, worth in enumerate((0.5, 3.0, 1.0))]
    assert diverse(lessons, 3, 3) == [1, 2, 0]
    assert diverse(lessons, 1, 1) == [1]
    assert diverse([], 3, 3) == []


def test_a_burst_gives_one_frame_until_nothing_else_is_left() -> None:
    burst = [lesson(float(at), 5.0 - 0.1 * at, 0) for at in range(4)]
    others = [lesson(100.0 + 40 * at, 0.5, 0) for at in range(3)]
    chosen = diverse(burst + others, 7, 7)
    assert chosen[0] == 0
    assert set(chosen[1:4]) == {4, 5, 6}
    assert set(chosen[4:]) == {1, 2, 3}


def test_the_same_mistake_in_the_same_place_counts_less_each_time() -> None:
    parked = [lesson(100.0 * at, 2.0, 0) for at in range(5)]
    walker = [lesson(1000.0, 1.2, 1)]
    assert diverse(parked + walker, 2, 2) == [0, 5]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.2, 20.0), st.integers(0, CELLS - 1)), max_size=30),
    st.integers(1, 40),
)
def test_so_many_are_chosen_as_there_are_and_none_twice(rows: list[tuple[float, float, int]], count: int) -> None:
    lessons = [lesson(*row) for row in rows]
    chosen = diverse(lessons, count, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(lessons))
    if chosen:
        assert lessons[chosen[0]].worth == max(one.worth for one in lessons)


def test_no_more_hard_negatives_than_allowed() -> None:
    lessons = [lesson(100.0 * at, 9.0, empty=True) for at in range(5)]
    lessons += [lesson(1000.0 + 100 * at, 1.0) for at in range(2)]
    chosen = diverse(lessons, 5, 2)
    assert sum(lessons[at].empty for at in chosen) == 2
    assert len(chosen) == 4


def test_worth_lies_where_the_mistakes_are() -> None:
    found = mistakes(Compared(boxes_at((0, 0, 10, 10, 0.5, 1)), boxes_at((90, 90, 100, 100, 1.0, 0))))
    spread = places(found, 3.0, 100, 100, 2)
    assert spread.shape == (2 * GRID**2,)
    assert spread.sum() == pytest.approx(3.0)
    assert spread[GRID**2 - 1] == pytest.approx(2.0)
    assert spread[GRID**2] == pytest.approx(1.0)


def test_a_box_beyond_the_frame_belongs_to_its_border() -> None:
    found = mistakes(Compared(boxes_at((90, 90, 200, 200, 0.5, 0)), boxes_at()))
    assert places(found, 1.0, 100, 100, 1)[-1] == pytest.approx(1.0)


def test_a_frame_belongs_to_its_hour_with_each_of_its_classes() -> None:
    assert strata(3 * 3600 + 5.0, [0, 2, 2]) == {(3, 0), (3, 2)}
    assert strata(86_400.0 * 20_000 + 23.5 * 3600, []) == {(23, -1)}


def test_rare_hours_and_classes_are_replayed_before_common_ones() -> None:
    day = [{(12, 2)}] * 50
    night, bus = {(2, 2)}, {(12, 4), (12, 2)}
    drawn = replayed([*day, night, bus], [{(12, 2)}] * 10, 4, seed=1)
    assert {50, 51} <= set(drawn)
    assert len(set(drawn)) == 4


def test_each_stratum_has_an_even_share() -> None:
    drawn = replayed([{(at % 3, 0)} for at in range(60)], [], 9, seed=0)
    assert sorted(at % 3 for at in drawn) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_another_round_replays_others_of_the_same_stratum() -> None:
    draws = {tuple(replayed([{(1, 0)}] * 50, [], 5, seed)) for seed in range(6)}
    assert len(draws) == 6
    assert replayed([{(1, 0)}] * 50, [], 5, 3) == replayed([{(1, 0)}] * 50, [], 5, 3)


@given(st.integers(0, 20), st.integers(0, 30))
def test_no_more_is_replayed_than_there_is(frames: int, count: int) -> None:
    assert len(replayed([{(0, 0), (0, 1)}] * frames, [], count, 0)) == min(frames, count)


def test_it_says_that_it_goes_on_with_each_frame() -> None:
    beats: list[int] = []
    lessons = [lesson(100.0 * at, 1.0 + at, at % CELLS) for at in range(6)]
    chosen = diverse(lessons, 4, 4, lambda: beats.append(1))
    assert len(beats) == len(chosen) == 4
