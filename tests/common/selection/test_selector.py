"""The selector: budgets, the offline top-k, spacing, likeness, audits, bootstrap, and the baselines."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from culling.common.clock import DAY_S
from culling.common.selection.budget import Spent
from culling.common.selection.selector import (
    Action,
    Decision,
    Held,
    Released,
    Selector,
    SelectorSettings,
    Settled,
    Waiting,
    build_selector,
    settle,
)

BARE = {"spacing_s": 0.0, "duplicate_change": 0.0, "audit_share": 0.0, "bootstrap": 0, "window_s": 30.0}
"""Nothing but the budget; demo-sized windows."""
START = 20_000 * DAY_S


@dataclass
class Window:
    """One window as an agent and its spool would live it."""

    frames: list[tuple[float, float]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    forwarded: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    audits: list[int] = field(default_factory=list)
    probability: float = 1.0

    @property
    def left(self) -> set[int]:
        return {*self.forwarded, *self.released, *self.audits}

    @property
    def hard(self) -> set[int]:
        return {*self.forwarded, *self.released}

    def settle(self, released: Released) -> None:
        held = [Held(self.frames[i][0], self.decisions[i].reason, self.decisions[i].draw.lot) for i in self.held]  # type: ignore[union-attr]
        settled = settle(released, held)
        assert len(settled.hard) == released.frames
        assert len(settled.audits) == released.audits
        self.released = [self.held[place] for place in settled.hard]
        self.audits = [self.held[place] for place in settled.audits]
        self.probability = settled.probability

    def best(self, count: int) -> set[int]:
        """The offline top-k: highest loss first, of equals the earliest, nothing without a loss."""
        hard = [index for index, (loss, _) in enumerate(self.frames) if loss > 0]
        return set(sorted(hard, key=lambda index: (-self.frames[index][0], index))[:count])

    def overlap(self, count: int) -> float:
        best = self.best(count)
        return len(best & self.left) / len(best)

    def reasons(self) -> Counter[str]:
        return Counter(decision.reason for decision in self.decisions)


def play(selector: Selector, stream: list[tuple[float, float]], final: bool = True) -> list[Window]:
    """Live through `(loss, at)` frames; return the windows that closed."""
    windows, window = [], Window()

    def close(at: float, end: bool) -> None:
        nonlocal window
        if (released := selector.close_window(at, final=end)) is not None:
            window.settle(released)
            windows.append(window)
            window = Window()

    for loss, at in stream:
        close(at, end=False)
        decision = selector.decide(loss, at)
        index = len(window.frames)
        window.frames.append((loss, at))
        window.decisions.append(decision)
        if decision.action is Action.FORWARD:
            window.forwarded.append(index)
        elif decision.action is Action.HOLD:
            window.held.append(index)
    if final:
        close(stream[-1][1], end=True)
    return windows


def culling(**values: object) -> Selector:
    return build_selector(SelectorSettings.model_validate(BARE | values), random.Random(5))


def even(losses: list[float], seconds: float = 0.1, start: float = 1e9) -> list[tuple[float, float]]:
    return [(loss, start + index * seconds) for index, loss in enumerate(losses)]


LOSSES = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 9.0), st.sampled_from([1.0, 2.0])), min_size=1, max_size=200)


# Close to the offline top-k


@given(LOSSES, st.integers(1, 40))
def test_when_all_wait_what_leaves_is_exactly_the_offline_top_k(losses: list[float], count: int) -> None:
    for window in play(culling(eager_share=0.0, frames_per_window=count), even(losses)):
        assert window.left == window.best(count)
        assert not window.forwarded


@given(LOSSES, st.integers(1, 40), st.floats(0.0, 1.0))
def test_the_budget_is_spent_wherever_there_are_frames_for_it(losses: list[float], count: int, eager: float) -> None:
    for window in play(culling(eager_share=eager, frames_per_window=count), even(losses)):
        assert len(window.left) == len(window.best(count))


def street(seed: int, seconds: float, fps: float = 10.0) -> list[tuple[float, float]]:
    """A synthetic day: objects pass, each a bump of loss some seconds long, busier and quieter by turns, and noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(0.0, seconds, 1.0 / fps)
    busy = 1.0 + 0.6 * np.sin(2 * np.pi * at / 1700.0)
    loss = np.zeros_like(at)
    for start in rng.uniform(0.0, seconds, int(seconds / 12.0)):
        height = rng.gamma(3.0, 0.6) * np.interp(start, at, busy)
        loss += height * np.exp(-(((at - start) / rng.uniform(0.5, 3.0)) ** 2))
    loss = np.where(loss > 0.05, loss * rng.uniform(0.7, 1.0, len(at)), 0.0)
    return [(float(one), 1e9 + float(when)) for one, when in zip(loss, at, strict=True)]


def mean_overlap(eager: float, **values: object) -> tuple[float, float]:
    """Overlap with the offline top-k, and the share of what left that did so at once, but for the first window."""
    selector = culling(eager_share=eager, frames_per_window=40, window_s=300.0, **values)
    windows = play(selector, street(1, 3000.0))[1:]
    at_once = sum(len(window.forwarded) for window in windows) / sum(len(window.left) for window in windows)
    return float(np.mean([window.overlap(40) for window in windows])), at_once


def test_overlap_falls_and_promptness_rises_with_the_eager_share() -> None:
    measured = {eager: mean_overlap(eager) for eager in (0.0, 0.25, 0.5, 1.0)}
    overlaps, promptness = zip(*measured.values(), strict=True)
    assert overlaps[0] == 1.0
    assert promptness[0] == 0.0
    assert overlaps[1] >= 0.9
    assert overlaps[2] >= 0.8
    assert overlaps[3] >= 0.6
    assert list(overlaps) == sorted(overlaps, reverse=True)
    assert list(promptness) == sorted(promptness)
    assert promptness[3] > 0.45


def test_the_default_beats_every_blind_baseline_by_far() -> None:
    blind = [
        np.mean([window.overlap(40) for window in play(culling(policy=policy, frames_per_window=40, window_s=300.0),
                                                       street(1, 3000.0))])
        for policy in ("random", "interval")
    ]  # fmt: skip
    assert mean_overlap(0.5)[0] > 5 * max(blind)


def test_spacing_still_finds_the_peaks() -> None:
    selector = culling(eager_share=0.5, frames_per_window=20, window_s=300.0, spacing_s=2.0)
    windows = play(selector, street(2, 3000.0))
    hardest = [np.sort([loss for loss, _ in window.frames])[-200:].mean() for window in windows]
    chosen = [np.mean([window.frames[index][0] for index in window.left]) for window in windows]
    assert np.mean(np.array(chosen) / hardest) > 0.75


# Budgets


@settings(max_examples=60)
@given(
    losses=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=300),
    seconds=st.floats(0.05, 40.0),
    values=st.fixed_dictionaries(
        {
            "policy": st.sampled_from(["culling", "random", "interval"]),
            "frames_per_window": st.integers(1, 30),
            "window_s": st.floats(1.0, 90.0),
            "frames_per_day": st.none() | st.integers(0, 60),
            "eager_share": st.floats(0.0, 1.0),
            "spacing_s": st.floats(0.0, 3.0),
            "audit_share": st.floats(0.0, 0.5),
            "bootstrap": st.integers(0, 20),
        }
    ),
)
def test_no_setting_ever_goes_over_a_budget(losses: list[float], seconds: float, values: dict[str, object]) -> None:
    chosen = SelectorSettings.model_validate(BARE | values)
    stream = even(losses, seconds)
    windows = play(build_selector(chosen, random.Random(3)), stream)
    assert sum(len(window.frames) for window in windows) == len(losses)
    assert all(len(window.frames) == len(window.decisions) for window in windows)
    assert all(len(window.left) <= chosen.frames_per_window for window in windows)
    if chosen.frames_per_day is not None:
        days = 1 + int(stream[-1][1] // 86400 - stream[0][1] // 86400)
        assert sum(len(window.left) for window in windows) <= chosen.frames_per_day * days


@pytest.mark.parametrize("policy", ["culling", "cloud-only"])
def test_bytes_per_day_are_kept(policy: str) -> None:
    size, limit = 100_000, 3_000_000
    selector = culling(policy=policy, bytes_per_day=limit, eager_share=1.0, frames_per_window=40, window_s=3600.0)
    sent = 0
    rng = random.Random(2)
    for index in range(5000):  # from UTC midnight on
        at = 86400.0 * 19_700 + index * 17.0
        released = selector.close_window(at)
        leaving = released.frames if released else 0
        leaving += selector.decide(rng.random(), at).action is Action.FORWARD
        for _ in range(leaving):
            sent += size
            selector.note_bytes(size)
    assert 0.9 * limit <= sent <= limit


def test_a_spent_budget_is_the_reason_once_it_is_spent() -> None:
    selector = culling(frames_per_window=40, frames_per_day=0)
    assert selector.decide(5.0, 1e9) == Decision(Action.SKIP, "budget")
    assert selector.decide(0.0, 1e9) == Decision(Action.SKIP, "empty")


# Reasons


def test_a_frame_with_nothing_in_it_is_never_hard() -> None:
    windows = play(culling(frames_per_window=40), even([0.0] * 50))
    assert windows[0].reasons() == {"empty": 50}
    assert not windows[0].left


def test_a_frame_that_cannot_be_among_the_best_is_below_the_threshold() -> None:
    selector = culling(frames_per_window=2, eager_share=0.0)
    actions = [selector.decide(loss, 1e9) for loss in (3.0, 4.0, 2.0, 3.0, 3.5)]
    held, below = Decision(Action.HOLD, "hard"), Decision(Action.SKIP, "below-threshold")
    assert actions == [held, held, below, below, held]


def test_a_frame_that_reaches_the_threshold_leaves_at_once() -> None:
    selector = culling(frames_per_window=10, eager_share=0.5)
    play(selector, even([float(loss) for loss in range(300)]), final=False)
    assert selector.close_window(1e9 + 30.0) is not None
    assert selector.decide(294.0, 1e9 + 30.0) == Decision(Action.HOLD, "hard")
    assert selector.threshold == 295.0
    assert selector.decide(295.0, 1e9 + 30.1) == Decision(Action.FORWARD, "hard")


def test_spacing_bars_a_frame_soon_after_a_kept_one() -> None:
    selector = culling(spacing_s=2.0, eager_share=0.0)
    decisions = [selector.decide(1.0 + at, 1e9 + at) for at in (0.0, 1.9, 2.0, 3.9, 4.1)]
    assert [decision.reason for decision in decisions] == ["hard", "spacing", "hard", "spacing", "hard"]


def test_a_frame_that_only_waits_does_not_bar_one_that_may_leave_at_once() -> None:
    selector = culling(frames_per_window=10, eager_share=0.5, spacing_s=2.0)
    play(selector, even([float(loss) for loss in range(300)]), final=False)
    selector.close_window(1e9 + 30.0)
    assert selector.decide(1.0, 1e9 + 33.0).action is Action.HOLD
    assert selector.decide(999.0, 1e9 + 33.5).action is Action.FORWARD
    assert selector.decide(999.0, 1e9 + 34.0).reason == "spacing"


@pytest.mark.parametrize(("change", "reason"), [(11, "duplicate"), (12, "hard")])
def test_a_frame_that_looks_like_a_kept_one_everywhere_is_a_duplicate(change: int, reason: str) -> None:
    selector = culling(duplicate_change=12.0, eager_share=0.0)
    rng = np.random.default_rng(0)
    view = rng.integers(0, 240, (18, 32), dtype=np.uint8)
    other = rng.integers(0, 240, (18, 32), dtype=np.uint8)
    assert selector.decide(1.0, 1e9, view).action is Action.HOLD
    assert selector.decide(1.5, 1e9 + 5, other).action is Action.HOLD
    again = view + rng.integers(0, 9, view.shape, dtype=np.uint8)  # noise everywhere, and in one cell something moved
    again[5, 7] = view[5, 7] + change
    assert selector.decide(2.0, 1e9 + 10, again).reason == reason


def test_thumbnails_of_another_shape_are_no_duplicates() -> None:
    selector = culling(duplicate_change=1.0, eager_share=0.0)
    selector.decide(1.0, 1e9, np.zeros((18, 32), np.uint8))
    assert selector.decide(1.0, 1e9 + 1, np.zeros((20, 32), np.uint8)).action is Action.HOLD
    assert selector.decide(1.0, 1e9 + 2, np.zeros((18, 32), np.uint8)).reason == "duplicate"


# Audits


def test_audits_are_a_uniform_sample_of_frames_that_were_not_hard() -> None:
    rng = np.random.default_rng(4)
    losses = np.where(rng.random(60_000) < 0.02, rng.uniform(5, 9, 60_000), rng.uniform(0, 1, 60_000)).tolist()
    windows = play(culling(audit_share=0.25, frames_per_window=40), even(losses))
    easy = [
        (index in window.audits, window.frames[index][0], index)
        for window in windows
        for index in set(range(len(window.frames))) - window.hard
    ]
    audited, loss, place = (np.array(column) for column in zip(*easy, strict=True))
    assert audited.sum() == 10 * len(windows)
    assert loss[audited].mean() == pytest.approx(loss.mean(), abs=0.1)
    assert place[audited].mean() == pytest.approx(place.mean(), abs=8)
    assert all(len(window.left) == 40 for window in windows)


@pytest.mark.parametrize("seed", range(3))
def test_every_tenth_of_a_window_gets_its_share_of_the_audits(seed: int) -> None:
    tenths = np.zeros(10)
    stream = street(seed, 33_000.0, fps=0.25)
    for run in range(4):
        settings = SelectorSettings.model_validate({"window_s": 330.0, "bootstrap": 0, "spacing_s": 2.0})
        for window in play(build_selector(settings, random.Random(1000 * seed + run)), stream):
            tenths += np.bincount([10 * index // len(window.frames) for index in window.audits], minlength=10)
    share = tenths / tenths.sum()
    assert tenths.sum() == 2 * 100 * 4
    assert share.min() > 0.05
    assert share.max() < 0.15


def test_every_kind_of_skip_is_audited_in_proportion() -> None:
    stayed, drawn = Counter[str](), Counter[str]()
    for seed in range(120):
        rng = np.random.default_rng(seed)
        losses = np.where(rng.random(400) < 0.3, 0.0, rng.uniform(0.0, 3.0, 400)).tolist()
        settings = SelectorSettings.model_validate(
            {"frames_per_window": 16, "window_s": 40.0, "audit_share": 0.25, "bootstrap": 0, "spacing_s": 0.3}
        )
        selector, view = build_selector(settings, random.Random(seed)), np.zeros((32, 32), np.uint8)
        reasons, held = [], []
        for index, loss in enumerate(losses):
            other = np.full((32, 32), 5 * (index // 8), np.uint8) if loss else view
            decision = selector.decide(loss, 1e9 + 0.1 * index, other)
            reasons.append(decision.reason)
            if decision.action is Action.HOLD and decision.draw is not None:
                held.append((index, Held(loss, decision.reason, decision.draw.lot)))
        released = selector.close_window(1e9 + 40.0)
        assert released is not None
        settled = settle(released, [one for _, one in held])
        assert settled.probability == 4 / (released.among - len(settled.hard))
        # What would have become of a drawn frame without the draw is told by the same stream without audits.
        bare = settings.model_copy(update={"audit_share": 0.0, "frames_per_window": 12})
        twin = build_selector(bare, random.Random(seed))
        for index, loss in enumerate(losses):
            other = np.full((32, 32), 5 * (index // 8), np.uint8) if loss else view
            decision = twin.decide(loss, 1e9 + 0.1 * index, other)
            assert decision.reason == reasons[index] or reasons[index] == "audit", "a draw changes no other frame"
            stayed[decision.reason] += decision.action is not Action.FORWARD
            if index in {held[place][0] for place in settled.audits}:
                drawn[decision.reason] += 1
    assert {"empty", "below-threshold", "spacing", "duplicate"} <= set(stayed)
    for reason in ("empty", "below-threshold", "spacing", "duplicate"):
        assert drawn[reason] / drawn.total() == pytest.approx(stayed[reason] / stayed.total(), abs=0.07), reason


def test_weighted_by_their_probabilities_the_frames_that_left_stand_for_all_frames() -> None:
    errors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        losses = rng.gamma(2.0, 1.0, 400).tolist()
        selector = build_selector(
            SelectorSettings.model_validate(
                {"frames_per_window": 20, "window_s": 20.0, "audit_share": 0.3, "bootstrap": 0, "spacing_s": 1.0}
            ),
            random.Random(seed),
        )
        windows = play(selector, even(losses))
        said = sum(
            sum(window.frames[i][0] for i in window.hard)
            + sum(window.frames[i][0] for i in window.audits) / window.probability
            for window in windows
        )
        errors.append(said / sum(losses) - 1.0)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / len(errors) ** 0.5, "the estimate is unbiased"
    assert np.std(errors) < 0.25


def test_a_frame_that_was_held_as_hard_and_is_not_among_the_best_may_be_drawn() -> None:
    drawn = 0
    for seed in range(100):
        settings = SelectorSettings.model_validate(
            BARE | {"frames_per_window": 4, "audit_share": 0.5, "eager_share": 0}
        )
        selector = build_selector(settings, random.Random(seed))
        [window] = play(selector, even([float(loss) for loss in range(1, 21)]))
        assert window.hard == {18, 19}
        assert window.reasons() == {"hard": 20}, "each was the best so far"
        assert window.probability == 2 / 18
        drawn += len(window.audits)
    assert drawn == 200


@pytest.mark.parametrize("seconds", [3.0, 11.0, 25.0])
def test_a_window_that_is_cut_short_still_tells_the_probability(seconds: float) -> None:
    for cut in ("swap", "end"):
        selector = culling(frames_per_window=40, audit_share=0.1)
        stream = even([0.0] * round(10 * seconds))
        for loss, at in stream:
            selector.decide(loss, at)
        if cut == "swap":
            selector.note_swap()
        released = selector.close_window(1e9 + seconds, final=cut == "end")
        assert released is not None
        assert released.among == len(stream)
        limit = 40 if cut == "end" else int(40 * seconds / 30.0)
        assert released.audits == max(1, round(0.1 * limit))


def test_a_restart_goes_on_with_the_draw() -> None:
    tenths = np.zeros(10)
    settings = SelectorSettings.model_validate(BARE | {"frames_per_window": 10, "audit_share": 0.2})
    for seed in range(300):
        held: list[tuple[int, Held]] = []
        waiting = Waiting()
        for life, (first, last) in enumerate(((0, 70), (70, 100))):
            selector = build_selector(settings, random.Random(2 * seed + life), held=waiting)
            for index in range(first, last):
                decision = selector.decide(0.0, 1e9 + 0.2 * index)
                if decision.action is Action.HOLD:
                    assert decision.draw is not None
                    held = [one for one in held if one[1].lot != decision.draw.ousts]
                    held.append((index, Held(0.0, "audit", decision.draw.lot)))
            waiting = Waiting((), [one.lot or 0.0 for _, one in held], selector.among)
        released = selector.close_window(1e9 + 20.0, final=True)
        assert released == Released(0, 2, 100)
        settled = settle(released, [one for _, one in held])
        assert settled.probability == 0.02
        tenths += np.bincount([held[place][0] // 10 for place in settled.audits], minlength=10)
    assert tenths.sum() == 600
    assert tenths.min() > 35
    assert tenths.max() < 90


def test_audits_have_their_share_of_the_budget_whatever_is_hard() -> None:
    windows = play(culling(audit_share=0.1, frames_per_window=20, eager_share=1.0), even([5.0] * 3000))
    assert [len(window.audits) for window in windows] == [2] * len(windows)
    assert [len(window.left) for window in windows] == [20] * len(windows)


@pytest.mark.parametrize(("pace", "left"), [(0.125, 7), (0.5, 21), (1.0, 40), (2.0, 78), (4.0, 154)])
def test_a_pace_changes_how_many_are_hard_and_none_of_the_audits(pace: float, left: int) -> None:
    selector = culling(audit_share=0.05, frames_per_window=40, window_s=60.0)
    selector.allow(None, pace)
    windows = play(selector, even([5.0] * 3000))
    assert [len(window.audits) for window in windows] == [2] * 5
    assert [len(window.left) for window in windows] == [left] * 5


@given(st.integers(2, 60), st.floats(0.01, 0.5), st.sampled_from([0.1, 0.125, 0.25, 0.5, 2.0, 3.0, 4.0]))
@settings(max_examples=60, deadline=None)
def test_at_every_pace_there_are_as_many_audits(budget: int, share: float, pace: float) -> None:
    audits = []
    for times in (1.0, pace):
        selector = culling(audit_share=share, frames_per_window=budget)
        selector.allow(None, times)
        [window] = play(selector, even([5.0] * 290))
        audits.append(len(window.audits))
        assert window.hard or budget == audits[0]
    assert audits[0] == audits[1] == max(1, round(share * budget))


def test_a_pace_is_one_of_the_budget_that_is_in_force() -> None:
    selector = culling(audit_share=0.1, frames_per_window=20, eager_share=1.0)
    selector.allow(10, 0.5)
    assert [len(window.left) for window in play(selector, even([5.0] * 600))] == [1 + 4, 1 + 4]
    selector.allow(None)
    assert [len(window.left) for window in play(selector, even([5.0] * 299, start=1e9 + 60.0))] == [20]


def test_a_window_in_which_more_left_than_a_new_pace_allows_ends_as_it_began() -> None:
    selector = culling(audit_share=0.1, frames_per_window=20, eager_share=1.0)
    stream = even([5.0] * 900)
    first = play(selector, stream[:150], final=False)
    selector.allow(None, 0.25)  # 4 hard ones, of which more than that have left
    first = play(selector, stream[150:])
    assert [len(window.audits) for window in first] == [2, 2, 2], "no audit pays for what had left"
    assert [len(window.left) for window in first[1:]] == [6, 6]


def test_another_pace_holds_at_once_where_it_can() -> None:
    selector = culling(audit_share=0.1, frames_per_window=20, eager_share=0.0)
    stream = even([5.0] * 300)
    play(selector, stream[:150], final=False)
    selector.allow(None, 0.5)
    selector.decide(5.0, stream[-1][1])
    assert selector.close_window(1e9 + 30.0) == Released(9, 2, 151)


def test_at_any_pace_a_day_keeps_its_limit() -> None:
    selector = culling(audit_share=0.1, frames_per_window=20, frames_per_day=24, window_s=6 * 3600.0)
    selector.allow(None, 4.0)
    windows = play(selector, even([5.0] * 1439, seconds=60.0, start=START))
    assert [len(window.left) for window in windows] == [6, 6, 6, 6]
    assert all(window.audits for window in windows)


@pytest.mark.parametrize("policy", ["random", "interval"])
def test_baselines_keep_a_pace_too(policy: str) -> None:
    selector = culling(policy=policy, frames_per_window=12)
    selector.allow(None, 0.5)
    assert [len(window.left) for window in play(selector, even([5.0] * 900), final=False)] == [6, 6]


def test_frames_in_which_nothing_was_found_are_audited_too() -> None:
    windows = play(culling(audit_share=0.1, frames_per_window=20), even([0.0] * 3000))
    assert [len(window.audits) for window in windows] == [2] * len(windows)


def test_of_held_frames_the_best_leave_as_hard_and_the_lowest_lots_of_the_others_as_audits() -> None:
    held = [Held(1.0, "hard", 0.9), Held(0.0, "audit", 0.2), Held(3.0, "hard", 0.0), Held(2.0, "hard", 0.1),
            Held(9.0, "audit", 0.3), Held(1.0, "hard", None)]  # fmt: skip
    assert settle(Released(1, 2, 101), held) == Settled([2], [3, 1], 0.02)
    assert settle(Released(9, 1, 5), held) == Settled([2, 3, 0, 5], [1], 1.0)
    assert settle(Released(0, 0, 50), held) == Settled([], [], 1.0)


def test_without_an_audit_share_there_are_no_audits() -> None:
    assert play(culling(audit_share=0.0), even([0.0] * 900))[0].reasons() == {"empty": 300}


def test_bootstrap_spreads_a_cameras_first_frames_over_a_window_whatever_their_loss() -> None:
    windows = play(culling(bootstrap=6, frames_per_window=40), even([0.0] * 700))
    at = [at - 1e9 for window in windows for (_, at), d in zip(window.frames, window.decisions, strict=True)
          if d == Decision(Action.FORWARD, "bootstrap")]  # fmt: skip
    assert at == pytest.approx([0.0, 5.0, 10.0, 15.0, 20.0, 25.0], abs=0.11)


def test_bootstrap_stays_within_the_budget() -> None:
    windows = play(culling(bootstrap=16, frames_per_window=4), even([0.0] * 1500))
    assert all(len(window.left) <= 4 for window in windows)
    assert sum(window.reasons()["bootstrap"] for window in windows) == 16


# Time and swaps


def test_a_window_stays_open_until_it_is_closed() -> None:
    selector = culling(frames_per_window=3)
    assert selector.close_window(1e9) is None
    assert selector.close_window(1e9 + 29.9) is None
    selector.decide(1.0, 1e9 + 29.9)
    released = selector.close_window(1e9 + 30.0)
    assert released is not None
    assert released.frames == 1
    assert selector.close_window(1e9 + 30.1) is None


def test_the_end_of_a_stream_releases_what_is_held_at_once() -> None:
    selector = culling(frames_per_window=3, eager_share=0.0)
    for loss in (1.0, 2.0):
        selector.decide(loss, 1e9)
    released = selector.close_window(1e9 + 1.0, final=True)
    assert released is not None
    assert released.frames == 2


def test_a_swap_forgets_the_threshold_and_ends_the_window_with_its_share() -> None:
    selector = culling(frames_per_window=10, eager_share=0.5)
    play(selector, even([float(loss) for loss in range(400)]), final=False)
    assert selector.threshold > 0.0
    selector.note_swap()
    assert selector.threshold == 0.0
    released = selector.close_window(1e9 + 40.0)
    assert released is not None
    assert released.frames <= 3, "a third of the window has passed"
    assert selector.decide(1.0, 1e9 + 40.1).action is Action.HOLD, "nothing is known of the new model's losses"
    assert selector.close_window(1e9 + 69.9) is None
    assert selector.close_window(1e9 + 70.0) is not None


def test_swaps_do_not_raise_the_rate() -> None:
    selector = culling(frames_per_window=30, eager_share=1.0)
    left, at = 0, 1e9
    rng = random.Random(1)
    for index in range(6000):
        at = 1e9 + index * 0.1
        if index % 70 == 69:
            selector.note_swap()
        released = selector.close_window(at)
        left += released.frames if released else 0
        left += selector.decide(rng.random(), at).action is Action.FORWARD
    assert left <= 30 * (1 + (at - 1e9) / 30.0)


def test_a_camera_slower_than_its_budget_sends_everything_hard() -> None:
    windows = play(culling(frames_per_window=40, eager_share=1.0), even([1.0, 2.0, 3.0] * 20, seconds=3.0))
    assert all(window.left == set(range(len(window.frames))) for window in windows)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        culling().decide(loss, 1e9)


def test_hour_long_windows_work_as_demo_windows_do() -> None:
    stream = [(loss, 1e9 + index) for index, (loss, _) in enumerate(street(3, 1440.0))]
    windows = play(culling(window_s=3600.0, frames_per_window=40), stream)
    assert len(windows) == 4
    assert all(len(window.left) == 40 for window in windows)
    assert np.mean([window.overlap(40) for window in windows]) > 0.85


# Settings and baselines


def test_defaults_are_the_documented_ones() -> None:
    chosen = SelectorSettings()
    assert (chosen.policy, chosen.frames_per_window, chosen.window_s) == ("culling", 40, 3600.0)
    assert all(field.description for field in SelectorSettings.model_fields.values())


@pytest.mark.parametrize(
    "wrong", [{"policy": "best"}, {"window_s": 0}, {"audit_share": 0.6}, {"eager_share": -0.1}, {"frames_per_hour": 4}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SelectorSettings.model_validate(wrong)


@pytest.mark.parametrize("policy", ["culling", "random", "interval"])
def test_all_policies_with_a_budget_spend_it(policy: str) -> None:
    rng = random.Random(8)
    windows = play(culling(policy=policy, frames_per_window=12), even([rng.random() for _ in range(3000)]), final=False)
    assert [len(window.left) for window in windows[1:]] == [12] * (len(windows) - 1)


def test_interval_forwards_at_even_times() -> None:
    windows = play(culling(policy="interval", frames_per_window=3), even([0.0] * 900))
    assert [window.forwarded for window in windows] == [[0, 100, 200]] * 3


def test_interval_does_not_catch_up_after_a_gap() -> None:
    selector = culling(policy="interval", frames_per_window=3)
    selector.decide(0.0, 1e9)
    selector.close_window(1e9 + 95.0)
    decisions = [selector.decide(0.0, 1e9 + 95.0 + index) for index in range(3)]
    assert [decision.reason for decision in decisions] == ["hard", "not-due", "not-due"]


def test_random_does_not_look_at_the_loss() -> None:
    stream = even([float(index % 2) for index in range(30_000)])
    windows = play(culling(policy="random", frames_per_window=40), stream)
    odd = [index % 2 for window in windows for index in window.forwarded]
    assert np.mean(odd) == pytest.approx(0.5, abs=0.05)


def test_cloud_only_forwards_every_frame_and_edge_only_none() -> None:
    cloud = play(culling(policy="cloud-only", frames_per_window=1), even([0.0, 5.0] * 100))[0]
    assert len(cloud.forwarded) == 200
    edge = play(culling(policy="edge-only"), even([0.0, 5.0] * 100))[0]
    assert edge.reasons() == {"edge-only": 200}


@pytest.mark.parametrize("policy", ["random", "interval", "cloud-only", "edge-only"])
def test_baselines_close_windows_and_take_swaps_like_the_selector(policy: str) -> None:
    selector = culling(policy=policy)
    selector.decide(1.0, 1e9)
    selector.note_swap()
    selector.note_bytes(5)
    assert selector.close_window(1e9 + 1) is None
    released = selector.close_window(1e9 + 30)
    assert released is not None
    assert released.frames == 0
    assert selector.threshold == 0.0


@pytest.mark.parametrize("policy", ["culling", "random", "interval", "cloud-only"])
def test_a_restart_brings_no_new_budget_for_the_day(policy: str) -> None:
    settings = SelectorSettings.model_validate({"policy": policy, "frames_per_day": 30, "window_s": 3600.0})
    restarted = build_selector(settings, random.Random(1), Spent(int(START // DAY_S), frames=30))

    decisions = [restarted.decide(5.0, START + second) for second in range(60)]

    assert {decision.reason for decision in decisions} == {"budget"}


def test_frames_held_before_a_restart_leave_with_the_window_that_is_open_after_it() -> None:
    settings = SelectorSettings.model_validate(
        {"frames_per_window": 3, "window_s": 60.0, "eager_share": 0, "audit_share": 0, "bootstrap": 0, "spacing_s": 0}
    )
    restarted = build_selector(settings, random.Random(1), held=Waiting([4.0, 6.0]))
    assert restarted.close_window(START) is None
    assert restarted.decide(0.0, START).action is Action.SKIP
    assert restarted.close_window(START + 60.0) == Released(2, audits=0, among=1)

    fuller = build_selector(settings, random.Random(1), held=Waiting([4.0, 6.0, 5.0]))
    assert fuller.decide(3.0, START).reason == "below-threshold"
    assert fuller.decide(4.5, START + 1).action is Action.HOLD
    assert fuller.close_window(START + 60.0) == Released(3, audits=0, among=2)


# Frames that the student did not look at


def test_frames_that_an_earlier_answer_stands_for_count_in_the_draw() -> None:
    selector = culling(audit_share=0.1, frames_per_window=20, eager_share=0.0)
    at, held = 1e9, 0
    for index in range(200):
        at = 1e9 + index / 10
        selector.close_window(at)
        if index % 5 and not selector.soon(1):
            selector.stood(at)
        else:
            held += selector.decide(0.0, at).reason == "audit"
    assert held >= 2
    assert selector.close_window(1e9 + 30.0) == Released(0, 2, 200), "each of the 200 may be drawn alike"


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 10]))
@settings(max_examples=20, deadline=None)
def test_who_is_drawn_does_not_depend_on_what_is_looked_at(seed: int, every: int) -> None:
    def drawn(every: int) -> list[int]:
        chosen = SelectorSettings(audit_share=0.1, frames_per_window=20, window_s=60, bootstrap=0)
        selector = build_selector(chosen, random.Random(seed))
        lots: dict[float, int] = {}
        for index in range(100):
            at = 1e9 + index / 10
            selector.close_window(at)
            if index % every and not selector.soon(1):
                selector.stood(at)
            elif (draw := selector.decide(0.0, at).draw) is not None and draw.among == index + 1:
                lots[draw.lot] = index
        return [lots[lot] for lot in sorted(lots)[:2]]

    assert drawn(every) == drawn(1)


@pytest.mark.parametrize("policy", ["random", "interval", "cloud-only", "edge-only"])
def test_baselines_draw_no_audits_of_frames_that_nobody_looked_at(policy: str) -> None:
    selector = culling(policy=policy)
    selector.stood(1e9)
    assert not selector.soon(100)
    assert selector.among == 0
