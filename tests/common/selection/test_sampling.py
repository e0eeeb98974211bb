"""Quantile and lottery: what the past tells of the frames to come."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.selection.sampling import Draw, Lottery, Reservoir, Tail


@given(st.lists(st.floats(0.0, 9.0), min_size=1, max_size=80), st.integers(1, 10))
def test_level_is_the_exact_quantile_of_the_window_before(losses: list[float], target: int) -> None:
    tail = Tail(60.0, depth=20)
    for loss in losses:
        tail.add(loss)
    tail.roll(60.0)
    expected = sorted(losses)[-target] if target <= len(losses) else 0.0
    assert tail.level(target, elapsed=0.0) == expected


def test_level_follows_the_window_so_far_as_it_grows() -> None:
    tail = Tail(60.0, depth=20)
    for loss in range(100):
        tail.add(float(loss))
    tail.roll(60.0)
    assert tail.level(10, 0.0) == 90.0
    for loss in range(200, 300):  # a busier window: half of it has passed
        tail.add(float(loss))
    assert tail.level(10, 30.0) == 295.0, "the fifth of this window, where the two together have 285"
    for _ in range(100):
        tail.add(0.5)
    tail.roll(60.0)
    assert tail.level(10, 30.0) == 285.0, "and nothing yet in the next, so that the one before speaks alone"


def test_level_is_infinite_until_enough_time_was_seen() -> None:
    tail = Tail(60.0, depth=20)
    tail.add(1.0)
    assert tail.level(10, 5.9) == math.inf
    assert tail.level(10, 6.0) == 1.0
    assert tail.level(0, 60.0) == math.inf


def test_a_window_without_frames_leaves_the_level_of_the_one_before() -> None:
    tail = Tail(60.0, depth=20)
    for loss in range(100):
        tail.add(float(loss))
    tail.roll(60.0)
    tail.roll(60.0)
    assert tail.level(10, 0.0) == 90.0


def test_forgetting_begins_afresh() -> None:
    tail = Tail(60.0, depth=20)
    tail.add(5.0)
    tail.roll(60.0)
    tail.forget()
    assert tail.level(10, 0.0) == math.inf


def test_the_lottery_draws_as_many_as_wanted_each_with_the_same_chance() -> None:
    lottery = Lottery(60.0, random.Random(1))
    drawn: list[int] = []
    for _ in range(400):
        wanted = 5
        for frame in range(100):
            if lottery.draw(wanted, frame * 0.6):
                wanted -= 1
                drawn.append(frame)
        lottery.roll(60.0)
        assert wanted >= 0
    assert len(drawn) == pytest.approx(2000, abs=20)
    quarters = np.bincount(np.array(drawn) // 25, minlength=4)
    assert quarters.min() > 420
    assert quarters.max() < 580


def test_the_lottery_draws_none_when_none_is_wanted() -> None:
    lottery = Lottery(60.0, random.Random(1))
    assert not any(lottery.draw(0, at * 0.1) for at in range(700))


def filled(reservoir: Reservoir, frames: int, size: int) -> dict[float, int]:
    """Draw for so many frames; return the places by their lots, as a spool would hold them."""
    places: dict[float, int] = {}
    reservoir.begin(size)
    for frame in range(frames):
        if (draw := reservoir.enter(reservoir.draw())) is not None:
            places.pop(draw.ousts or 0.0, None)
            places[draw.lot] = frame
    return places


@given(st.integers(0, 60), st.integers(0, 8), st.integers(0, 1000))
def test_a_reservoir_holds_as_many_frames_as_it_has_places_or_all(frames: int, size: int, seed: int) -> None:
    reservoir = Reservoir(random.Random(seed))
    assert len(filled(reservoir, frames, size)) == min(frames, size)
    assert reservoir.among == frames
    reservoir.close()
    assert (reservoir.among, reservoir.size) == (0, None)


def test_every_frame_of_a_reservoir_has_the_same_chance_wherever_it_stands() -> None:
    drawn = [frame for seed in range(1000) for frame in filled(Reservoir(random.Random(seed)), 50, 3).values()]
    tenths = np.bincount(np.array(drawn) // 5, minlength=10) / len(drawn)
    assert tenths.min() > 0.08
    assert tenths.max() < 0.12


def test_a_reservoir_goes_on_from_what_another_left_with_no_more_places_than_that_knew() -> None:
    reservoir = Reservoir(random.Random(1), lots=[0.4, 0.2], among=50)
    reservoir.begin(5)
    assert reservoir.size == 2
    assert reservoir.draw().among == 51
    assert reservoir.enter(Draw(0.3, 51)) == Draw(0.3, 51, ousts=0.4)
    assert reservoir.enter(Draw(0.3, 52)) is None
    smaller = Reservoir(random.Random(1), lots=[0.4, 0.2], among=50)
    smaller.begin(1)
    assert smaller.enter(Draw(0.3, 51)) is None
    lost = Reservoir(random.Random(1), lots=[], among=50)
    lost.begin(5)
    assert (lost.size, lost.among) == (5, 0)


def test_who_may_be_drawn_is_known_some_frames_before() -> None:
    reservoir = Reservoir(random.Random(4))
    reservoir.begin(2)
    for _ in range(500):
        soon = [reservoir.soon(ahead) for ahead in (1, 5)]
        takes = reservoir.enter(reservoir.draw()) is not None
        assert takes == soon[0], "of the next frame"
        assert soon[1] or not takes, "a frame that takes a place was told of before"


def test_looking_ahead_changes_nothing_of_who_is_drawn() -> None:
    def lots(ahead: int) -> list[float]:
        reservoir = Reservoir(random.Random(4))
        reservoir.begin(2)
        found = []
        for _ in range(50):
            if ahead:
                reservoir.soon(ahead)
            found.append(reservoir.draw().lot)
        return found

    assert lots(0) == lots(1) == lots(40)


def test_nobody_is_drawn_where_there_is_no_place() -> None:
    reservoir = Reservoir(random.Random(4))
    reservoir.begin(0)
    assert not reservoir.soon(100)
