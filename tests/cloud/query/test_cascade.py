"""What is chosen, and that it keeps its word: numbers stand for the video, an oracle for student and teacher."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.query.cascade import (
    Answers,
    Indices,
    Levels,
    Sample,
    Tried,
    _certify,
    answers,
    draw,
    find,
    levels,
    sizes,
)
from culling.cloud.query.difference import Standing
from culling.common.errors import SettingsError


@dataclass
class Oracle:
    """Scores and answers that are known; counts whom it was asked about."""

    scores: NDArray[np.float64]
    truth: Answers
    by_student: set[int] = field(default_factory=set)
    by_teacher: set[int] = field(default_factory=set)

    def student(self, frames: Indices) -> NDArray[np.float64]:
        self.by_student |= set(frames.tolist())
        return self.scores[frames]

    def teacher(self, frames: Indices) -> Answers:
        self.by_teacher |= set(frames.tolist())
        return self.truth[frames]

    def price(self) -> tuple[float, float]:
        return 0.05, 1.0


def video(seed: int, total: int = 4000, noise: float = 0.2, busy: float = 0.3) -> Oracle:
    """Events that last; a student whose score is that of the truth, blurred, and which now and then sees nothing."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random(total // 20) < busy, 20)
    scores = np.clip(np.where(truth, 0.75, 0.2) + rng.normal(0, noise, total), 0, 1)
    scores[rng.random(total) < 0.002] = 0.0
    return Oracle(scores, truth)


def ways(seed: int, total: int) -> list[Standing]:
    """All frames looked at, and two ways to leave out many, blind to what happens."""
    rng = np.random.default_rng(seed)
    found = [Standing(0.0, np.arange(total))]
    for share in (0.5, 0.9):
        looked = rng.random(total) > share
        looked[0] = True
        found.append(Standing(share, np.maximum.accumulate(np.where(looked, np.arange(total), 0))))
    return found


def wrong(said: Answers, truth: Answers) -> float:
    """The larger share of frames that are wrong one way."""
    return float(max((said & ~truth).mean(), (~said & truth).mean()))


def asked(oracle: Oracle, error: float, seed: int) -> float:
    total = len(oracle.truth)
    sample = draw(total, *sizes(total, error), seed)
    cascade = find(oracle, ways(seed, total), sample, error)
    return wrong(answers(oracle, cascade, sample, total), oracle.truth)


@pytest.mark.parametrize(("error", "noise"), [(0.01, 0.2), (0.03, 0.3), (0.03, 0.05)])
def test_the_bound_is_broken_in_at_most_one_of_twenty_videos(error: float, noise: float) -> None:
    broken = sum(asked(video(seed, noise=noise), error, seed) > error for seed in range(200))
    assert broken <= 10


def test_levels_that_are_just_too_bold_pass_the_certificate_in_at_most_one_of_twenty_samples() -> None:
    """Every level of the sequence breaks the bound by one frame: any that passes is a false certificate."""
    total, error, passed = 2000, 0.02, 0
    truth = np.zeros(total, bool)
    truth[: int(error * total) + 1] = True
    oracle = Oracle(np.zeros(total), truth)
    every = Standing(0.0, np.arange(total))
    tried = [Tried(every, Levels(low, 2.0), True) for low in (0.1, 0.2, 0.3, 0.4)]
    choose, certify = sizes(total, error)
    for seed in range(2000):
        sample = Sample(np.array([], np.int64), draw(total, choose, certify, seed).certify)
        passed += _certify(oracle, tried, sample, error) is not None
    assert passed <= 129, "a twentieth of 2,000, and three deviations of a count that is really a twentieth"


def test_a_good_student_saves_most_looks_of_the_teacher() -> None:
    oracle = video(0, total=20_000, noise=0.1)
    assert asked(oracle, 0.01, 0) <= 0.01
    assert len(oracle.by_teacher) < 0.2 * 20_000


def test_frames_that_are_left_out_are_not_looked_at() -> None:
    oracle = video(1, total=20_000, noise=0.05, busy=0.02)
    total = len(oracle.truth)
    by = np.arange(total) // 10 * 10  # events last 20 frames, and begin where frames are looked at
    still = [Standing(0.0, np.arange(total)), Standing(1.0, by)]
    sample = draw(total, *sizes(total, 0.01), 0)
    cascade = find(oracle, still, sample, 0.01)
    assert cascade is not None
    assert cascade.standing.level == 1.0
    said = answers(oracle, cascade, sample, total)
    assert wrong(said, oracle.truth) <= 0.01
    assert len(oracle.by_student) < 0.2 * total


def test_frames_that_stand_for_others_wrongly_do_not_cost_the_student_its_say() -> None:
    """Nothing that the choosing sample, which is small, can tell: one frame in thirty has a wrong answer standing."""
    kept = 0
    for seed in range(40):
        oracle = video(seed, total=3000, noise=0.05)
        spoiled = np.random.default_rng(seed).random(3000) < 0.03
        spoiled &= ~oracle.truth
        other = int(np.flatnonzero(oracle.truth)[0])
        blind = [Standing(0.0, np.arange(3000)), Standing(1.0, np.where(spoiled, other, np.arange(3000) // 4 * 4))]
        sample = draw(3000, *sizes(3000, 0.03), seed)
        kept += find(oracle, blind, sample, 0.03) is not None
    assert kept >= 35


def test_a_student_that_guesses_leaves_the_work_to_the_teacher() -> None:
    oracle = video(2)
    oracle.scores = np.random.default_rng(0).random(len(oracle.truth))
    assert asked(oracle, 0.01, 0) <= 0.01
    assert len(oracle.by_teacher) > 0.9 * len(oracle.truth)


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_that_never_changes_takes_little_more_than_the_sample(yes: bool) -> None:
    oracle = video(3, total=20_000, noise=0.0, busy=1.0 if yes else 0.0)
    assert asked(oracle, 0.01, 0) <= 0.01
    assert len(oracle.by_teacher) < 0.1 * 20_000


def test_what_the_teacher_said_of_the_sample_stands() -> None:
    oracle = Oracle(np.zeros(3000), np.arange(3000) % 500 == 0)
    sample = draw(3000, *sizes(3000, 0.01), 0)
    said = answers(oracle, find(oracle, ways(0, 3000)[:1], sample, 0.01), sample, 3000)
    assert (said[sample.both] == oracle.truth[sample.both]).all()


def test_a_rare_answer_is_not_given_up_because_the_bound_would_allow_it() -> None:
    scores, truth = np.full(4000, 0.01), np.zeros(4000, bool)
    truth[::500], scores[::500] = True, 0.5
    sample = draw(4000, *sizes(4000, 0.01), 0)
    oracle = Oracle(scores, truth)
    assert (answers(oracle, find(oracle, ways(0, 4000)[:1], sample, 0.01), sample, 4000) == truth).all()


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_levels_are_wrong_no_more_often_than_they_may(rows: list[tuple[float, bool]], spare: int) -> None:
    scores, truth = np.array([score for score, _ in rows]), np.array([yes for _, yes in rows])
    found = levels(scores, truth, spare)
    assert found.low <= found.high
    if min(truth.sum(), (~truth).sum()) >= 10 and found.low < found.high:
        assert (truth & (scores < found.low)).sum() <= spare
        assert (~truth & (scores >= found.high)).sum() <= spare


def test_a_sample_that_cannot_support_the_bound_is_refused_with_what_it_takes() -> None:
    choose, certify = sizes(1700, 0.01)
    assert sizes(1700, 0.01, choose + certify) == (choose, certify)
    told = rf"--sample {choose + certify - 1}: .* label {choose + certify} of the 1700 frames"
    with pytest.raises(SettingsError, match=told):
        sizes(1700, 0.01, choose + certify - 1)


def test_a_video_that_is_too_short_for_the_bound_is_refused_with_the_bound_that_it_bears() -> None:
    with pytest.raises(
        SettingsError, match=r"--error 0\.001: .* the video has 500 that can be decoded; .* raise it to 0\.00[46]"
    ) as refused:
        sizes(500, 0.001)
    bears = float(str(refused.value).rpartition(" ")[2])
    assert sum(sizes(500, bears)) <= 500


def test_a_longer_video_spares_more_wrong_answers_in_the_sample() -> None:
    assert sizes(1_000_000, 0.01)[1] > 700
    assert sizes(1700, 0.01)[1] < 270


def test_samples_are_drawn_apart() -> None:
    sample = draw(100, 30, 60, 1)
    assert len(set(sample.both.tolist())) == 90
