"""Which thread has gone silent."""

from __future__ import annotations

import pytest

from culling.edge.watchdog import Watchdog


def test_nothing_watched_is_never_stuck() -> None:
    assert Watchdog().stuck(1e9) == []


def test_a_thread_that_never_beat_is_stuck_after_its_limit() -> None:
    dog = Watchdog()
    dog.watch("main", 5, now=100)
    assert dog.stuck(105) == []
    assert dog.stuck(105.1) == ["main"]


def test_a_beat_restarts_the_wait() -> None:
    dog = Watchdog()
    dog.watch("main", 5, now=100)
    dog.beat("main", 104)
    assert dog.stuck(109) == []
    assert dog.stuck(109.1) == ["main"]
    dog.beat("main", 110)
    assert dog.stuck(111) == []


def test_beats_that_arrive_out_of_order_do_not_turn_time_back() -> None:
    dog = Watchdog()
    dog.watch("main", 5, now=100)
    dog.beat("main", 110)
    dog.beat("main", 101)
    assert dog.stuck(112) == []


def test_each_thread_has_its_own_limit_and_the_longest_overdue_comes_first() -> None:
    dog = Watchdog()
    dog.watch("recorder", 30, now=0)
    dog.watch("main", 5, now=0)
    dog.watch("forwarder", 10, now=0)
    dog.beat("recorder", 60)
    assert dog.stuck(61) == ["main", "forwarder"]


def test_a_thread_that_ended_is_not_missed() -> None:
    dog = Watchdog()
    dog.watch("builder", 5, now=0)
    dog.release("builder")
    dog.release("builder")
    assert dog.stuck(100) == []


def test_watching_again_sets_a_new_limit() -> None:
    dog = Watchdog()
    dog.watch("builder", 5, now=0)
    dog.watch("builder", 50, now=10)
    assert dog.stuck(59) == []


def test_a_beat_of_an_unknown_thread_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Watchdog().beat("nobody", 0)


@pytest.mark.parametrize("limit_s", [0, -1])
def test_a_limit_must_leave_time(limit_s: float) -> None:
    with pytest.raises(ValueError, match="limit_s of main"):
        Watchdog().watch("main", limit_s, now=0)
