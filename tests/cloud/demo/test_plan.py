from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from culling.cloud.demo.plan import LADDER, WANTED_ROUND_S, WANTED_S, Plan, Speed, choose, left_s
from support.machines import GPU, QUIET, slower

FRAMES = st.sampled_from([(768, 576), (320, 240), (1920, 1080), (3840, 2160), (64, 64), (480, 854)])
SECONDS = (st.floats(0.002, 20.0), st.floats(0.005, 60.0), st.floats(0.01, 120.0), st.floats(5.0, 900.0))
SPEEDS = st.integers(1, 128).flatmap(
    lambda cores: st.builds(Speed, FRAMES, st.just(cores), st.sampled_from([1, cores]), *SECONDS)
)
ROUNDS = st.integers(1, 12)


def spent(speed: Speed) -> float:
    """Return what measuring takes at the least: starting up, the export, three steps and a few frames."""
    return 12 * speed.slowness + speed.export_s + 4 * speed.step_s + 6 * speed.teacher_s + 6 * speed.student_s


@given(*(st.floats(0.01, 3.0) for _ in range(4)))
def test_two_cores_at_a_third_of_the_speed_end_three_rounds_within_fifteen_minutes(
    student: float, teacher: float, step: float, export: float
) -> None:
    speed = Speed((768, 576), 2, 2, 0.32 * student, 0.28 * teacher, 1.2 * step, 4.0 * export)
    assert spent(speed) + choose(speed, 3, spent(speed)).total_s <= 15 * 60


def test_two_quiet_cores_take_about_nine_minutes_for_three_rounds_of_full_size() -> None:
    plan = choose(QUIET, 3, spent(QUIET))
    assert 7 <= (spent(QUIET) + plan.total_s) / 60 <= 10
    assert (plan.sizes.long_side, plan.int8) == (640, False)


def test_a_gpu_gets_the_best_students_in_floats() -> None:
    plan = choose(GPU, 3, spent(GPU))
    assert plan.sizes == LADDER[0]
    assert not plan.int8


@given(SPEEDS, ROUNDS)
def test_a_plan_takes_the_time_wanted_or_is_the_quickest_there_is(speed: Speed, rounds: int) -> None:
    plan = choose(speed, rounds)
    if plan.total_s > WANTED_S + WANTED_ROUND_S * rounds:
        assert plan.total_s <= choose(speed, rounds, limit_s=0.0).total_s


@given(SPEEDS, ROUNDS, st.floats(1.0, 10.0))
def test_a_slower_machine_never_gets_more_work(speed: Speed, rounds: int, times: float) -> None:
    fast, slow = choose(speed, rounds), choose(slower(speed, times), rounds)
    assume(fast.total_s <= WANTED_S + WANTED_ROUND_S * rounds)
    assert LADDER.index(slow.sizes) >= LADDER.index(fast.sizes)


@given(SPEEDS, ROUNDS, st.floats(30.0, 3600.0), st.booleans())
def test_a_limit_is_kept_where_anything_keeps_it(speed: Speed, rounds: int, limit_s: float, flat_out: bool) -> None:
    plan = choose(speed, rounds, limit_s=limit_s, flat_out=flat_out)
    least = choose(speed, rounds, limit_s=0.0, flat_out=flat_out)
    assert plan.total_s <= max(limit_s, least.total_s)


@given(SPEEDS, ROUNDS, st.booleans())
def test_every_figure_of_a_plan_can_be_set(speed: Speed, rounds: int, flat_out: bool) -> None:
    plan = choose(speed, rounds, flat_out=flat_out)
    assert 0 < plan.max_fps <= 1.5
    assert plan.frames_per_window >= 2
    assert plan.min_new > plan.sizes.kept, "a round that keeps every frame culls nothing"
    assert all(seconds > 0 for seconds in plan.stages.values())
    assert min(plan.prepare_s, plan.collect_s, plan.close_s) > 0 <= plan.wait_s


def test_a_slow_student_is_shown_fewer_frames_so_that_rounds_get_on() -> None:
    assert choose(QUIET, 3).max_fps == 1.5
    assert choose(slower(QUIET, 10), 3).max_fps < 0.5


def test_more_rounds_take_longer() -> None:
    plans = [choose(QUIET, rounds, limit_s=0.0) for rounds in range(1, 8)]
    assert all(before.total_s < after.total_s for before, after in pairwise(plans))


def test_a_plan_is_plain_data_for_the_report() -> None:
    assert asdict(choose(QUIET, 3))["sizes"]["kept"] == 16


@pytest.fixture
def plan() -> Plan:
    return choose(QUIET, 3)


def test_what_is_left_at_first_is_what_was_promised(plan: Plan) -> None:
    assert left_s(plan, [], None, 0.0) == pytest.approx(plan.total_s - plan.prepare_s)


def test_what_is_left_falls_while_frames_are_collected_and_a_round_runs(plan: Plan) -> None:
    collecting = [left_s(plan, [], None, seconds) for seconds in (0.0, 10.0, 1e6)]
    running = [left_s(plan, [], list(plan.stages), seconds) for seconds in (0.0, 10.0, 1e6)]
    assert collecting == sorted(collecting, reverse=True)
    assert running == sorted(running, reverse=True)
    assert collecting[-1] == pytest.approx(running[0]), "a round that is late to start is about to"
    assert running[-1] == pytest.approx(running[0] - plan.stages["label"]), (
        "a late stage makes none of the others shorter"
    )


def test_rounds_that_took_twice_as_long_double_what_is_left(plan: Plan) -> None:
    one, two = ([times * plan.round_s] * 3 for times in (1, 2))
    assert left_s(plan, two, None, 0.0) == pytest.approx(2 * left_s(plan, one, None, 0.0))


@given(
    st.lists(st.floats(0.1, 1e4), max_size=5),
    st.none() | st.lists(st.sampled_from(["label", "cull", "train", "gate"]), unique=True),
    st.floats(0, 1e6),
)
def test_what_is_left_is_never_negative(ended: list[float], todo: list[str] | None, since_s: float) -> None:
    assert left_s(choose(QUIET, 3), ended, todo, since_s) >= 0
