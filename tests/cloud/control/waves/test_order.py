"""Which cameras get a student when, and when no further one gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.control.waves.order import Done, Halt, Launch, next_step, wave_of
from culling.cloud.store.waves.trials import Rollout, Trial, TrialState

SHARES = st.lists(st.floats(0.01, 0.99), max_size=5, unique=True).map(lambda some: (*sorted(some), 1.0))

STATES: list[TrialState] = ["waiting", "shadow", "live", "passed", "failed", "left"]


def trials(*states: tuple[int, TrialState]) -> list[Trial]:
    """Return trials of as many cameras, each of its wave."""
    return [
        Trial(place, f"camera-{place}", 1, wave, state, None, None, None, None, None, None, "")
        for place, (wave, state) in enumerate(states)
    ]


def rollout(rate: float = 0.1, forgiven: int = 0) -> Rollout:
    return Rollout(1, "student.onnx", "ann@yard", 0.0, None, "running", (0.1, 1.0), rate, forgiven, "")


@given(st.integers(1, 60), SHARES)
def test_every_camera_is_in_a_wave_the_first_has_one_and_none_exceeds_its_share_by_a_camera(
    count: int, shares: tuple[float, ...]
) -> None:
    cameras = [f"camera-{place}" for place in range(count)]
    found = wave_of(cameras, shares)
    assert list(found) == cameras
    assert found[cameras[0]] == 0
    for wave, share in enumerate(shares):
        reached = sum(one <= wave for one in found.values())
        assert share * count <= reached + 1e-6
        assert reached < share * count + 1


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 0]), (5, [1, 4]), (20, [2, 18]), (21, [3, 18])])
def test_a_tenth_of_the_cameras_comes_first(count: int, sizes: list[int]) -> None:
    found = list(wave_of([str(place) for place in range(count)], (0.1, 1.0)).values())
    assert [found.count(0), found.count(1)] == sizes


def test_the_next_wave_waits_until_the_one_before_has_ended() -> None:
    first = next_step(rollout(), trials((0, "waiting"), (1, "waiting")))
    assert isinstance(first, Launch)
    assert [trial.camera for trial in first.trials] == ["camera-0"]
    for state in ("shadow", "live"):
        assert next_step(rollout(), trials((0, state), (1, "waiting"))) == Launch(0, ())
    second = next_step(rollout(), trials((0, "passed"), (1, "waiting")))
    assert isinstance(second, Launch)
    assert [trial.camera for trial in second.trials] == ["camera-1"]


def test_more_failures_than_allowed_halt_it_at_once_and_say_how_many() -> None:
    found = next_step(rollout(0.4), trials((0, "failed"), (0, "shadow"), (1, "waiting")))
    assert found == Halt("1 of 2 cameras failed, more than 40%")
    assert next_step(rollout(0.5), trials((0, "failed"), (0, "shadow"), (1, "waiting"))) == Launch(0, ())


def test_what_failed_before_it_was_gone_on_with_counts_no_more() -> None:
    found = next_step(rollout(forgiven=1), trials((0, "failed"), (1, "waiting")))
    assert isinstance(found, Launch)
    assert isinstance(next_step(rollout(forgiven=1), trials((0, "failed"), (1, "failed"), (1, "waiting"))), Halt)


def test_it_is_done_once_every_camera_had_its_trial() -> None:
    assert next_step(rollout(0.5), trials((0, "passed"), (1, "failed"))) == Done("1 of 2 cameras passed")
    assert next_step(rollout(), trials((0, "passed"), (1, "left"))) == Done("1 of 2 cameras passed, 1 left")


def test_what_was_left_is_no_failure_and_until_one_showed_something_no_more_begin_than_in_the_first_wave() -> None:
    some = trials((0, "left"), (1, "waiting"), (1, "waiting"))
    assert next_step(rollout(), some) == Launch(1, (some[1],))
    assert next_step(rollout(), trials((0, "left"), (1, "shadow"), (1, "waiting"))) == Launch(1, ())
    some = trials((0, "left"), (1, "passed"), (1, "waiting"), (1, "waiting"))
    assert next_step(rollout(), some) == Launch(1, tuple(some[2:]))
    assert next_step(rollout(), trials((1, "waiting"))) == Launch(1, tuple(trials((1, "waiting")))), "the first is gone"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["waiting", "shadow", "live", "passed", "failed", "left"])))
)
def test_no_camera_is_launched_while_one_of_an_earlier_wave_has_not_ended(states: list[tuple[int, TrialState]]) -> None:
    some = trials(*states)
    found = next_step(rollout(0.99), some)
    if isinstance(found, Launch):
        for one in found.trials:
            assert one.state == "waiting"
            earlier = [other for other in some if other.wave < one.wave]
            assert all(other.state in ("passed", "failed", "left") for other in earlier)
