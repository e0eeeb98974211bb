"""The confidence loss, against values worked out by hand from the paper's formula (section 2.1)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.frame import Detections
from culling.common.selection.confidence import POLICIES, LossMeter, confidence_loss

PAPER, ZERO, REFERENCE = POLICIES["paper"], POLICIES["zero-intercept"], POLICIES["reference"]


def found(*scores: float, labels: list[int] | None = None, side: float = 50.0) -> Detections:
    count = len(scores)
    boxes = np.tile(np.array([10.0, 10.0, 10.0 + side, 90.0], np.float32), (count, 1))
    return Detections(boxes, np.array(scores, np.float32), np.array(labels or [0] * count, np.int64))


def one(score: float, policy: str) -> float:
    return float(confidence_loss(np.array([score]), POLICIES[policy])[0])


GOLDEN = [
    # L(0)   = −0·ln 0·3 [= 0] + 1 · e⁰/(e⁰ + 1) [= 1/2] + 0.5
    ("paper", 0.0, 1.0),
    # L(0.5) = 0.5 · 0.6931471806 · 3 [= 1.0397207708] + 0.5 · 1.6487212707/2.6487212707 [= 0.3112296656] + 0.5
    ("paper", 0.5, 1.8509504364),
    # L(0.2) = 0.2 · 1.6094379124 · 3 [= 0.9656627475] + 0.8 · 1.2214027582/2.2214027582 [= 0.4398671979] + 0.5
    ("paper", 0.2, 1.9055299454),
    # L(1/e) = (1/e) · 1 · 3 [= 1.1036383235] + 0.6321205588 · 1.4446678610/2.4446678610 [= 0.3735494176] + 0.5
    ("paper", math.exp(-1), 1.9771877411),
    # L(1)   = −1·ln 1·3 [= 0] + 0 · e/(e + 1) + 0.5
    ("paper", 1.0, 0.5),
    # b = −0.5 moves each value above by −1
    ("zero-intercept", 0.0, 0.0),
    ("zero-intercept", 0.5, 0.8509504364),
    ("zero-intercept", 1.0, -0.5),
    # L(0.5) = −0.5 · log10(0.50001) [= 0.1505106549] · 4 [= 0.6020426197] + 0.3112296656 + 0.5
    ("reference", 0.5, 1.4132722853),
    # L(0)   = −0 · log10(0.00001) · 4 [= 0] + 0.5 + 0.5
    ("reference", 0.0, 1.0),
    # L(1)   = −1 · log10(1.00001) [= 4.3429231e-6] · 4 [= −1.737169e-5] + 0 + 0.5
    ("reference", 1.0, 0.4999826283),
]


@pytest.mark.parametrize(("policy", "score", "expected"), GOLDEN)
def test_loss_of_one_score_is_the_value_worked_out_by_hand(policy: str, score: float, expected: float) -> None:
    assert one(score, policy) == pytest.approx(expected, abs=1e-9)


def test_policies_carry_the_constants_of_their_sources() -> None:
    assert (PAPER.q, PAPER.b, PAPER.log_base, PAPER.floor) == (3.0, 0.5, "e", 0.2)
    assert (ZERO.q, ZERO.b, ZERO.log_base, ZERO.floor) == (3.0, -0.5, "e", 0.2)
    assert (REFERENCE.q, REFERENCE.b, REFERENCE.log_base, REFERENCE.floor) == (4.0, 0.5, "10", 0.5)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_uncertain_scores_are_the_hardest(policy: str) -> None:
    losses = confidence_loss(np.linspace(0.0, 1.0, 1001), POLICIES[policy])
    peak = int(losses.argmax())
    assert 250 < peak < 350
    assert (np.diff(losses[: peak + 1]) > 0).all()
    assert (np.diff(losses[peak:]) < 0).all()


@given(st.floats(0.0, 1.0), st.sampled_from(sorted(POLICIES)))
def test_every_score_has_a_finite_loss_that_follows_the_formula(score: float, policy: str) -> None:
    p = POLICIES[policy]
    log = math.log if p.log_base == "e" else math.log10
    entropy = -score * log(score + p.epsilon) if score + p.epsilon > 0 else 0.0
    expected = entropy * p.q + (1 - score) * math.exp(score) / (math.exp(score) + 1) + p.b
    assert one(score, policy) == pytest.approx(expected, abs=1e-12)


def test_shape_is_kept_and_the_input_is_left_alone() -> None:
    scores = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    before = scores.copy()
    losses = confidence_loss(scores, PAPER)
    assert losses.shape == (2, 3)
    assert losses.dtype == np.float64
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_score_that_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="scores"):
        confidence_loss(np.array([0.5, bad]), PAPER)
    with pytest.raises(ValueError, match="scores"):
        LossMeter(PAPER, 6).loss(found(0.5, bad))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_frame_with_nothing_in_it_has_loss_zero(policy: str, normalise: bool) -> None:
    meter = LossMeter(POLICIES[policy], 6, normalise=normalise)
    assert meter.loss(Detections.empty()) == 0.0
    meter.loss(found(0.6, 0.7))
    assert meter.loss(Detections.empty()) == 0.0


def test_the_loss_of_a_frame_is_the_sum_over_its_detections() -> None:
    expected = 1.8509504364 + 0.5  # L(0.5) + L(1.0)
    assert LossMeter(PAPER, 6).loss(found(1.0, 0.5, labels=[0, 4])) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(0.25, 1.0, width=32), min_size=1, max_size=40))
def test_per_object_the_sum_is_divided_by_the_root_of_how_many_count(scores: list[float]) -> None:
    few, labels = [0.1, 0.9], [0] * len(scores) + [0, 3]  # one below the floor, one of a class that does not count
    meter = LossMeter(POLICIES["per-object"], 6, interest=[0])
    whole = LossMeter(PAPER, 6, interest=[0]).loss(found(*scores, *few, labels=labels))
    assert meter.loss(found(*scores, *few, labels=labels)) == pytest.approx(whole / len(scores) ** 0.5)


def test_per_object_one_doubtful_box_beats_three_sure_ones_and_three_doubtful_ones_beat_it() -> None:
    meter = LossMeter(POLICIES["per-object"], 6)
    assert meter.loss(found(0.4)) > meter.loss(found(0.99, 0.99, 0.99))
    assert meter.loss(found(0.4, 0.4, 0.4)) > meter.loss(found(0.4))
    assert LossMeter(PAPER, 6).loss(found(0.4)) < LossMeter(PAPER, 6).loss(found(0.99, 0.99, 0.99, 0.99))


def test_scores_below_the_floor_are_not_counted_and_one_on_it_is() -> None:
    assert LossMeter(PAPER, 6).loss(found(0.199)) == 0.0
    assert LossMeter(PAPER, 6).loss(found(0.2)) == pytest.approx(1.9055299, abs=1e-6)
    assert LossMeter(REFERENCE, 6).loss(found(0.499)) == 0.0
    assert LossMeter(REFERENCE, 6).loss(found(0.5)) > 1.0


def test_classes_without_interest_are_not_counted() -> None:
    frame = found(0.5, 0.5, 0.5, labels=[0, 2, 5])
    assert LossMeter(PAPER, 6, interest=[0, 2]).loss(frame) == pytest.approx(2 * 1.8509504364, abs=1e-9)
    assert LossMeter(PAPER, 6, interest=[1]).loss(frame) == 0.0
    assert LossMeter(PAPER, 6, interest=[]).loss(frame) == LossMeter(PAPER, 6).loss(frame)


def test_boxes_with_a_side_below_the_minimum_are_not_counted() -> None:
    meter = LossMeter(PAPER, 6, min_side=20.0)
    assert meter.loss(found(0.5, side=19.9)) == 0.0
    assert meter.loss(found(0.5, side=20.0)) == pytest.approx(1.8509504364, abs=1e-9)


@pytest.mark.parametrize("interest", [[6], [-1], [0, 9]])
def test_interest_in_a_class_the_model_lacks_is_refused(interest: list[int]) -> None:
    with pytest.raises(ValueError, match="interest"):
        LossMeter(PAPER, 6, interest=interest)


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_the_model_lacks_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="labels"):
        LossMeter(PAPER, 6).loss(found(0.5, labels=[label]))


def test_normalised_losses_rank_frames_as_whole_stream_z_scores_do() -> None:
    rng = np.random.default_rng(7)
    frames = [found(*rng.uniform(0.2, 1.0, n), labels=rng.integers(0, 3, n).tolist()) for n in rng.integers(1, 12, 600)]
    meter = LossMeter(PAPER, 3, normalise=True)
    for frame in frames[:300]:  # the running statistics settle
        meter.loss(frame)
    running = np.array([meter.loss(frame) for frame in frames[300:]])
    sums = np.array([LossMeter(PAPER, 3)._per_class(frame) for frame in frames])
    z_scores = ((sums - sums.mean(0)) / sums.std(0)).mean(1)[300:]
    assert np.corrcoef(running, z_scores)[0, 1] > 0.99


def test_normalising_lets_a_rare_class_count_beside_a_crowd() -> None:
    rng = np.random.default_rng(3)
    plain, normalised = LossMeter(PAPER, 2), LossMeter(PAPER, 2, normalise=True)
    for _ in range(200):
        crowd = found(*[0.9] * int(rng.integers(5, 20)))
        plain.loss(crowd)
        normalised.loss(crowd)
    crowd, rare = found(*[0.9] * 19), found(0.5, labels=[1])
    assert plain.loss(crowd) > plain.loss(rare)
    assert normalised.loss(rare) > normalised.loss(crowd)


def test_normalised_losses_stay_finite_when_nothing_ever_changes() -> None:
    meter = LossMeter(PAPER, 6, normalise=True)
    losses = [meter.loss(found(0.5)) for _ in range(5000)]
    assert np.isfinite(losses).all()
    assert max(losses) < 1e3
