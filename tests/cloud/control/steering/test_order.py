from __future__ import annotations

import heapq
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.control.steering.order import FIRST_GAIN, LEAST_GAIN, all_due, choose, promise
from culling.cloud.control.steering.schedule import CameraStats
from culling.cloud.settings import ScheduleSettings
from culling.cloud.store.rounds import LastRound

NOW = 1_800_000_000.0
SETTINGS = ScheduleSettings(min_new=100, max_age_s=86_400.0)
DUE = CameraStats("gate", waiting=100, oldest_waiting=NOW - 60)

stats_of_some = st.builds(
    CameraStats,
    st.text(min_size=1, max_size=3),
    st.integers(0, 300),
    st.floats(NOW - 3e5, NOW),
    fell=st.sampled_from([0.0, 0.02, 0.3]),
    asked=st.booleans(),
    new=st.booleans(),
    right=st.none() | st.floats(0, 1),
)
lasts = st.builds(LastRound, st.floats(-0.5, 0.5), st.floats(0, 5000))


def choose_among(*cameras: CameraStats, **last: LastRound) -> str | None:
    found = choose(all_due(cameras, NOW, SETTINGS), NOW, SETTINGS, last)
    return None if found is None else found[0].camera


def test_nothing_is_chosen_where_no_round_is_due() -> None:
    assert choose_among(replace(DUE, waiting=3)) is None


def test_where_nothing_is_known_the_longest_wait_goes_first() -> None:
    late, early = (replace(DUE, camera=name, oldest_waiting=NOW - age) for name, age in (("late", 500), ("early", 900)))
    assert choose_among(late, early) == "early"


def test_what_was_requested_goes_first_and_then_what_waits_too_long() -> None:
    promising = replace(DUE, camera="promising", new=True)
    late, later = (replace(DUE, camera=name, oldest_waiting=NOW - age) for name, age in (("a", 86_400), ("b", 86_401)))
    asked = replace(DUE, camera="asked", asked=True)
    assert choose_among(promising, late, later, asked) == "asked"
    assert choose_among(promising, late, later) == "b"
    assert choose_among(promising, late) == "a"


def test_of_the_others_the_one_goes_first_whose_round_gains_most_a_second() -> None:
    slow, quick, none = (replace(DUE, camera=name) for name in ("slow", "quick", "none"))
    last = {"slow": LastRound(0.09, 900.0), "quick": LastRound(0.04, 300.0), "none": LastRound(0.0, 300.0)}
    assert choose_among(slow, quick, none, **last) == "quick"
    assert choose_among(slow, none, **last) == "slow"
    assert choose_among(none, replace(none, camera="new", new=True), **last) == "new"
    assert choose_among(none, replace(quick, fell=0.1), **last) == "quick"


@pytest.mark.parametrize(
    ("stats", "last", "gain"),
    [
        (DUE, None, FIRST_GAIN),
        (replace(DUE, new=True), LastRound(0.0, 10.0), FIRST_GAIN),
        (DUE, LastRound(0.03, 10.0), 0.03),
        (DUE, LastRound(-0.2, 10.0), LEAST_GAIN),
        (replace(DUE, fell=0.07), LastRound(0.03, 10.0), 0.07),
        (replace(DUE, right=0.98), LastRound(0.03, 10.0), 0.02),
        (replace(DUE, right=1.0, new=True), None, LEAST_GAIN),
    ],
)
def test_what_a_round_promises(stats: CameraStats, last: LastRound | None, gain: float) -> None:
    assert promise(stats, last, 10.0) == pytest.approx(gain / 10)


@given(st.lists(st.tuples(stats_of_some, lasts), max_size=12, unique_by=lambda pair: pair[0].camera))
def test_rounds_start_in_the_order_of_what_they_promise(some: list[tuple[CameraStats, LastRound]]) -> None:
    found = all_due([stats for stats, _ in some], NOW, SETTINGS)
    last = {stats.camera: one for stats, one in some}
    order = []
    while (chosen := choose(found, NOW, SETTINGS, last)) is not None:
        order.append(chosen)
        found.remove(chosen)
    ranks = [
        0 if trigger == "manual" else 1 if NOW - (stats.oldest_waiting or NOW) >= 86_400 else 2
        for stats, trigger in order
    ]
    assert ranks == sorted(ranks)
    rest = [stats for (stats, _), rank in zip(order, ranks, strict=True) if rank == 2]
    promised = [promise(stats, last[stats.camera], 1.0) for stats in rest]
    assert promised == sorted(promised, reverse=True)


def starts(cameras: int, parallel: int, seconds: float, max_age_s: float, days: float) -> dict[int, list[float]]:
    """Return how long each camera had waited at each of its rounds; all are always due, and the first promise most."""
    settings = ScheduleSettings(min_new=1, first=1, max_age_s=max_age_s)
    last = {f"{n:04}": LastRound(0.2 / (1 + n), seconds) for n in range(cameras)}
    since = dict.fromkeys(last, 0.0)
    waits: dict[int, list[float]] = {n: [] for n in range(cameras)}
    ends = [0.0] * parallel
    while (now := heapq.heappop(ends)) < days * 86_400:
        found = all_due([CameraStats(name, 9, at) for name, at in since.items()], now, settings)
        chosen = choose(found, now, settings, last)
        assert chosen is not None
        name = chosen[0].camera
        waits[int(name)].append(now - since[name])
        since[name] = now + 1  # new frames come at once
        heapq.heappush(ends, now + seconds)
    for name, at in since.items():
        waits[int(name)].append(days * 86_400 - at)
    return waits


def test_with_a_thousand_cameras_due_none_waits_beyond_its_bound() -> None:
    bound = 86_400 + 1000 * 600 / 4
    waits = starts(1000, 4, 600.0, 86_400, 3)
    assert max(max(one) for one in waits.values()) <= bound
    assert all(len(one) >= 2 for one in waits.values()), "each had a round"
    assert len(waits[0]) > len(waits[999]), "and those that promise most had more"


def test_without_the_bound_the_least_promising_would_starve() -> None:
    waits = starts(100, 1, 600.0, 1e9, 2)
    assert len(waits[99]) == 1, "it never had a round"
