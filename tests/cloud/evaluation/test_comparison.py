from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.evaluation.comparison import Judged, Rules, StudentComparison, class_weights, compare_students
from culling.cloud.evaluation.tally import Tally
from culling.cloud.evaluation.verdict import decide
from support.judged import judged, tally

CLASSES = ("person", "bus")
RULES = Rules((0, 1), resamples=200)


def compared(frames: list[Judged], rules: Rules = RULES) -> StudentComparison:
    found = compare_students(frames, rules)
    assert found is not None
    return found


def frames_of(
    before: Tally, after: Tally, count: int = 40, hours: tuple[int, ...] = (12,), weight: float = 1.0
) -> list[Judged]:
    """Return frames that are all alike, in blocks of four."""
    return [Judged(f"{at:04d}", at // 4, hours[at // 4 % len(hours)], weight, before, after) for at in range(count)]


GOOD, POOR = tally((2, [0.9, 0.8], []), (0, [], [])), tally((2, [0.9], []), (0, [], []))
BUSES = tally((2, [0.9, 0.8], []), (0, [], [0.7]))


def test_a_student_that_is_better_everywhere_is_certainly_better() -> None:
    found = compared(frames_of(POOR, GOOD))
    assert (found.after, found.frames, found.blocks) == (1.0, 40, 10)
    assert found.low == pytest.approx(found.gain)
    assert all(check.passed for check in found.checks)


def test_frames_that_show_nothing_compare_nothing() -> None:
    nothing = tally((0, [], []), (0, [], []))
    assert compare_students(frames_of(nothing, nothing), RULES) is None
    assert compare_students([], RULES) is None


def test_four_blocks_make_nothing_certain() -> None:
    assert compared(frames_of(POOR, GOOD, count=16)).low == -np.inf
    assert compared(frames_of(POOR, GOOD, count=16), replace(RULES, certainty=0.5)).low > 0


def test_a_class_without_labels_counts_by_its_false_alarms() -> None:
    found = compared(frames_of(POOR, BUSES))
    [worst, *_] = found.checks
    assert (worst.kind, worst.name, worst.before, worst.after) == ("alarms", "1", 0.0, 1.0)
    assert not worst.passed
    assert found.gain > 0
    assert not any(check.kind == "alarms" and not check.passed for check in compared(frames_of(BUSES, GOOD)).checks)


def test_one_bus_is_not_a_third_of_the_mean() -> None:
    weights = class_weights([300, 40, 1])
    assert weights.sum() == pytest.approx(1.0)
    assert weights[2] < 0.06
    assert weights[0] < 1.3 * weights[1], "a crowd does not silence what there is enough of"


def test_a_student_that_is_worse_by_night_fails_there() -> None:
    frames = [
        replace(frame, before=GOOD, after=POOR) if frame.hour == 2 else frame
        for frame in frames_of(POOR, GOOD, count=96, hours=(12, 14, 2))
    ]
    found = compared(frames)
    assert found.gain > 0
    [night] = [check for check in found.checks if check.kind == "hours" and not check.passed]
    assert (night.name, night.judged, night.gain < -0.4) == ("00-03 h", 32, True)


def test_a_frame_that_stands_for_many_counts_as_many() -> None:
    good, bad = frames_of(POOR, GOOD, 20), frames_of(GOOD, POOR, 20)
    later = [replace(frame, name=f"9{frame.name}", block=frame.block + 100, weight=3.0) for frame in bad]
    assert compared([*good, *[replace(frame, weight=1.0) for frame in later]]).gain == pytest.approx(0.0, abs=1e-9)
    assert compared([*good, *later]).gain < -0.1
    assert compared(frames_of(POOR, GOOD, weight=5.0)) == compared(frames_of(POOR, GOOD))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_order_of_frames_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = judged(rng, 24, 0.6, 0.7, hours=(3, 15))
    assert compared([frames[at] for at in rng.permutation(len(frames))]) == compared(frames)


def better(rng: np.random.Generator, seen: Tally) -> Tally:
    """Return what a student does that has gained an object that it missed, or lost a false alarm, in each class."""
    scores, hits = [], []
    for count, score, hit in zip(seen.objects, seen.scores, seen.hits, strict=True):
        if rng.random() < 0.5 and (~hit).any():
            gone = rng.choice(np.flatnonzero(~hit))
            score, hit = np.delete(score, gone), np.delete(hit, gone)
        elif hit.sum() < count:
            score, hit = np.append(score, np.float32(rng.random())), np.append(hit, True)
        order = np.argsort(-score, kind="stable")
        scores.append(score[order])
        hits.append(hit[order])
    return Tally(seen.objects, tuple(scores), tuple(hits))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.95, 0.5]))
@settings(max_examples=15, deadline=None)
def test_a_candidate_that_gets_better_is_never_refused_for_it(seed: int, certainty: float) -> None:
    rng = np.random.default_rng(seed)
    frames, rules = judged(rng, 48, 0.6, 0.7, hours=(3, 15)), replace(RULES, certainty=certainty)
    place = {"refused": 0, "provisional": 1, "published": 2}
    for _ in range(4):
        improved = [replace(one, after=better(rng, one.after)) if rng.random() < 0.3 else one for one in frames]
        outcomes, lows = [], []
        for each in (frames, improved):
            found = compared(each, rules)
            outcomes.append(place[decide(found, 0.0, 64, True, CLASSES).outcome])
            lows.append(found.low)
        assert outcomes[1] >= outcomes[0]
        assert lows[1] >= lows[0] - 1e-9
        frames = improved


def test_equal_students_are_published_as_seldom_as_the_certainty_says() -> None:
    rng, published = np.random.default_rng(1), 0
    for seed in range(60):
        found = compared(judged(rng, 40, 0.7, 0.7), replace(RULES, seed=seed))
        published += decide(found, 0.0, 40, False, CLASSES).outcome == "published"
    assert published <= 7
