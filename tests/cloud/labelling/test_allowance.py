from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.labelling.allowance import BURST, Demand, Helping, allowed, share_out
from culling.common.clock import DAY_S

NOON = DAY_S / 2

counts = st.integers(0, 50)
demands = st.lists(
    st.builds(Demand, st.sampled_from("abcdef"), counts, counts, counts, counts), unique_by=lambda demand: demand.camera
)


def others(per_day: int, done: int, now: float, judges_done: int = 0) -> int:
    return allowed(Demand("gate", 0, 10_000, judges_done, done), per_day, now)[1]


def test_the_allowance_of_the_others_accrues_over_the_day() -> None:
    assert others(96, 0, 0.0) == 48 * BURST
    assert others(96, 0, NOON) == 48 + 48 * BURST
    assert others(96, 0, DAY_S - 1) == 96
    assert others(96, 50, NOON) == 4
    assert others(96, 90, NOON) == 0


def test_what_judges_took_or_will_take_is_not_left_for_the_others() -> None:
    assert others(96, 0, DAY_S - 1, judges_done=40) == 56
    assert allowed(Demand("gate", 30, 999, 10, 0), 96, DAY_S - 1) == (30, 56)


def test_half_of_what_has_accrued_is_the_judges_and_half_the_others() -> None:
    assert allowed(Demand("gate", 999, 999), 96, 0.0) == (0, 6)
    assert allowed(Demand("gate", 999, 999), 96, NOON) == (24, 30)
    assert allowed(Demand("gate", 999, 999, 20, 30), 96, NOON) == (4, 0)
    assert allowed(Demand("gate", 999, 999, 40, 56), 96, DAY_S - 1) == (0, 0)


def test_judges_get_what_the_others_leave() -> None:
    assert allowed(Demand("gate", 999, 0), 96, NOON) == (48, 0)
    assert allowed(Demand("gate", 999, 10), 96, NOON) == (38, 10)
    assert allowed(Demand("gate", 999, 999, 60, 0), 96, NOON) == (0, 0), "what has accrued is used"
    assert allowed(Demand("gate", 999, 999, 0, 60), 96, NOON) == (24, 0), "but half of it is always theirs"


def judged(per_hour: int, per_day: int, others: int, days: int = 5) -> list[float]:
    """Return which share of a camera's judges is labelled, by the hour of the day in which they came.

    So many come at each full hour; what is allowed is used every ten minutes, by the newest hour first.
    """
    waiting: dict[int, int] = {}
    labelled = [0] * 24
    for day in range(days):
        done = [0, 0]
        for minute in range(0, 24 * 60, 10):
            hour = 24 * day + minute // 60
            if minute % 60 == 0:
                waiting[hour] = per_hour
                waiting.pop(hour - 24, None)
            demand = Demand("gate", sum(waiting.values()), others, *done)
            judges, rest = allowed(demand, per_day, DAY_S * day + 60.0 * minute)
            done = [done[0] + judges, done[1] + rest]
            for newest in sorted(waiting, reverse=True):
                now = min(judges, waiting[newest])
                waiting[newest] -= now
                judges -= now
                labelled[newest % 24] += now
    return [count / (days * per_hour) for count in labelled]


@pytest.mark.parametrize("others", [0, 1000])
@pytest.mark.parametrize("per_hour", [20, 40, 80])
def test_more_judges_than_can_be_labelled_are_thinned_alike_at_every_hour_of_the_day(
    per_hour: int, others: int
) -> None:
    shares = judged(per_hour, 640, others)
    mean = sum(shares) / 24
    assert mean == pytest.approx(min(1.0, (320 if others else 640) / (24 * per_hour)), rel=0.05)
    assert all(0.8 * mean <= share <= 1.2 * mean for share in shares)


def test_judges_take_half_of_a_batch_while_others_wait() -> None:
    assert share_out([Demand("a", 99, 99)], 8, 10_000, NOON) == [Helping("a", True, 4), Helping("a", False, 4)]
    assert share_out([Demand("a", 99, 1)], 8, 10_000, NOON) == [Helping("a", True, 7), Helping("a", False, 1)]
    assert share_out([Demand("a", 99, 99)], 1, 10_000, NOON) == [Helping("a", True, 1)]


def test_judges_of_every_camera_go_before_the_others() -> None:
    plan = share_out([Demand("a", 0, 9), Demand("b", 3, 9, 2, 3)], 8, 1000, NOON)
    assert plan == [Helping("b", True, 3), Helping("a", False, 5)]


def test_the_least_served_camera_goes_first() -> None:
    plan = share_out([Demand("a", 0, 9, 3, 4), Demand("b", 0, 9, 2, 0)], 12, 1000, NOON)
    assert plan == [Helping("b", False, 9), Helping("a", False, 3)]


@given(demands, st.integers(1, 40), st.integers(0, 200), st.floats(0, DAY_S))
def test_a_plan_asks_for_no_more_than_there_is_and_leaves_nothing_that_fits(
    given: list[Demand], size: int, per_day: int, now: float
) -> None:
    plan = share_out(given, size, per_day, now)
    open_to = {(demand.camera, True): allowed(demand, per_day, now)[0] for demand in given}
    open_to |= {(demand.camera, False): allowed(demand, per_day, now)[1] for demand in given}
    assert all(0 < helping.frames <= open_to[helping.camera, helping.judges] for helping in plan)
    assert sum(helping.frames for helping in plan) == min(size, sum(open_to.values()))


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0, DAY_S - 1)), max_size=30),
    st.integers(1, 16),
)
def test_whatever_comes_when_a_day_has_no_more_labels_than_its_allowance_and_neither_takes_the_half_of_the_other(
    per_day: int, arrivals: list[tuple[int, int, float]], size: int
) -> None:
    camera = Demand("gate", 0, 0)
    for judges, rest, now in [(9999, 9999, 0.0), *sorted(arrivals, key=lambda arrival: arrival[2]), (0, 0, DAY_S - 1)]:
        camera = replace(camera, judges=camera.judges + judges, others=camera.others + rest)
        while plan := share_out([camera], size, per_day, now):
            done = {helping.judges: helping.frames for helping in plan}
            camera = Demand(
                "gate",
                camera.judges - done.get(True, 0),
                camera.others - done.get(False, 0),
                camera.judges_done + done.get(True, 0),
                camera.others_done + done.get(False, 0),
            )
    assert camera.judges_done + camera.others_done == per_day, "no label is left over, with enough to label"
    assert abs(camera.judges_done - camera.others_done) <= 2


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0, DAY_S - 1)), max_size=30),
)
def test_a_day_never_has_more_labels_than_its_allowance(per_day: int, arrivals: list[tuple[int, int, float]]) -> None:
    camera = Demand("gate", 0, 0)
    for judges, rest, now in sorted(arrivals, key=lambda arrival: arrival[2]):
        waiting = replace(camera, judges=camera.judges + judges, others=camera.others + rest)
        one, other = allowed(waiting, per_day, now)
        camera = Demand(
            "gate", waiting.judges - one, waiting.others - other, waiting.judges_done + one, waiting.others_done + other
        )
        assert allowed(camera, per_day, now) == (0, 0), "all that is allowed was taken"
        assert camera.judges_done + camera.others_done <= per_day
