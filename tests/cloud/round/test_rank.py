from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from culling.cloud.round.rank import BUDGET, LEAST_AUDITS, Array, Lesson, budget, fit_ranker, gain_at, learn, rank
from culling.common.selection.features import FEATURES, SPEC
from culling.common.wire.messages import WireFeatures
from culling.common.wire.protocol import frame_id
from support.cloud import CloudState, detections
from support.rounds import EDGE, add, context_of, enter, with_features
from support.stored import label_all

COUNT = 300
WIDTH = len(FEATURES)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def told(rng: np.random.Generator, strength: float, count: int = COUNT) -> tuple[Array, Array]:
    """Return features and hardness, of which the second feature tells by that much."""
    features = rng.normal(size=(count, WIDTH))
    hardness = 0.4 + strength * features[:, 1] + 0.02 * rng.normal(size=count)
    return features, np.clip(hardness, 0.0, 1.0)


def taught(features: Array, hardness: Array, losses: Array, audits: int = COUNT) -> Lesson:
    return learn(features, hardness, losses, np.arange(len(hardness)) < audits)


def test_what_the_features_tell_is_learnt(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    rule = fit_ranker(features[:200], hardness[:200])
    assert rule.known
    assert np.abs(rule.predict(features[200:]) - hardness[200:]).mean() < 0.05


def test_a_feature_that_never_changes_teaches_nothing_and_breaks_nothing(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    features[:, 5] = 3.0
    rule = fit_ranker(features, hardness)
    changed = features.copy()
    changed[:, 5] = 1e6
    assert rule.predict(changed) == pytest.approx(rule.predict(features))


def test_from_one_frame_its_hardness_is_learnt() -> None:
    assert fit_ranker(np.zeros((1, WIDTH)), np.array([0.7])).predict(np.ones(WIDTH)) == pytest.approx(0.7)


def test_the_gain_is_the_share_of_all_mass_in_the_frames_that_leave() -> None:
    mass = np.array([6.0, 3.0, 1.0, 0.0])
    assert gain_at(np.array([4.0, 3.0, 2.0, 1.0]), mass, 0.25) == 0.6
    assert gain_at(np.array([4.0, 3.0, 2.0, 1.0]), mass, 0.5) == pytest.approx(0.9)
    assert gain_at(np.array([1.0, 2.0, 3.0, 4.0]), mass, 0.5) == pytest.approx(0.1)
    assert gain_at(np.zeros(4), mass, 0.25) == 0.25, "frames of equal worth count by their mean"
    assert gain_at(np.zeros(4), mass, 0.001) == 0.25, "one frame leaves at least"


def test_where_nothing_is_wrong_there_is_nothing_to_gain() -> None:
    assert gain_at(np.arange(4.0), np.zeros(4), 0.5) == 0.0


def test_the_budget_is_a_cameras_own_share_within_bounds() -> None:
    assert budget(None) == BUDGET[1]
    assert [budget(share) for share in (0.002, 0.03, 0.5)] == [0.01, 0.03, 0.05]


def test_a_ranker_that_orders_all_but_the_frames_that_leave_is_not_proven(rng: np.random.Generator) -> None:
    """The loss finds the few worst frames and knows nothing of the others; the ranker knows the others alone."""
    features, mass = told(rng, 0.1)
    worst = np.arange(COUNT) % 20 == 3
    mass = np.where(worst, 5.0, mass)
    features[worst] = -3.0
    assert taught(features, mass, np.where(worst, 9.0, 0.0)).ranker is None


def test_a_ranker_that_finds_what_the_loss_misses_is_proven(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    lesson = taught(features, hardness, losses=rng.random(COUNT))
    assert lesson.ranker == fit_ranker(features, hardness)
    assert lesson.gain_learned > lesson.gain_loss + 0.01
    assert (lesson.pairs, lesson.audits, lesson.certainty) == (COUNT, COUNT, 1.0)


def test_too_few_audit_frames_prove_nothing(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    lesson = taught(features, hardness, rng.random(COUNT), audits=LEAST_AUDITS - 1)
    assert lesson == Lesson(COUNT, LEAST_AUDITS - 1)
    assert taught(features, hardness, rng.random(COUNT), audits=LEAST_AUDITS).ranker is not None


def test_no_frames_at_all_prove_nothing() -> None:
    assert taught(np.zeros((0, 0)), np.zeros(0), np.zeros(0)) == Lesson(0, 0)


def test_a_loss_that_is_as_good_stays_in_use(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    assert taught(features, hardness, losses=hardness).ranker is None


def test_only_audit_frames_judge(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.1)
    losses = np.where(np.arange(COUNT) < 100, hardness, rng.random(COUNT))  # right where it is judged, wrong elsewhere
    assert taught(features, hardness, losses, audits=100).ranker is None


def test_a_stretch_of_time_that_was_learnt_by_heart_proves_nothing(rng: np.random.Generator) -> None:
    stretches = np.repeat(np.arange(10), COUNT // 10)
    features = np.zeros((COUNT, WIDTH))
    features[np.arange(COUNT), stretches] = 1.0
    hardness = rng.random(10)[stretches]
    losses = hardness + rng.normal(size=COUNT)
    by_heart = gain_at(fit_ranker(features, hardness).predict(features), hardness, BUDGET[1])
    lesson = taught(features, hardness, losses)
    assert by_heart > lesson.gain_loss > lesson.gain_learned
    assert lesson.ranker is None


def test_the_same_frames_teach_the_same(rng: np.random.Generator) -> None:
    features, hardness = told(rng, 0.02)
    losses = rng.random(COUNT)
    assert taught(features, hardness, losses) == taught(features, hardness, losses)


def test_every_labelled_frame_with_features_is_learnt_from(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    with_features(cloud, range(20, 24), float)
    with_features(cloud, range(24, 28), float, reason="audit", loss=0.5)
    add(cloud, range(30, 31), features=WireFeatures(SPEC + 1, [1.0] * len(FEATURES)))
    add(cloud, range(31, 32), features=WireFeatures(SPEC, [1.0]))
    seen = {frame_id(EDGE, "boot-1", seq): detections((1, 1, 20, 20, 0.9, 0)) for seq in (20, 21, 25, 27, 30, 31, 1)}
    seen[frame_id(EDGE, "boot-1", 21)] = detections((60, 60, 90, 90, 0.9, 0))
    cloud.lifecycle.label(seen)
    asked: list[Any] = []
    monkeypatch.setattr("culling.cloud.round.rank.learn", lambda *pairs: asked.append(pairs) or Lesson(4, 2))

    result = rank(context_of(cloud), cloud.rounds.get(enter(cloud)), {})

    [(features, mass, losses, audits, share)] = asked
    assert share == BUDGET[1]
    assert features.shape == (4, len(FEATURES))
    assert features[:, 0].tolist() == [20, 21, 25, 27]
    assert mass.tolist() == pytest.approx([0, 1.8, 0, 0])
    assert losses.tolist() == [20, 21, 0.5, 0.5]
    assert audits.tolist() == [False, False, True, True]
    assert (result["ranker"], result["proven"]) == (None, False)


def test_without_features_nothing_is_learnt(cloud: CloudState) -> None:
    label_all(cloud)
    assert rank(context_of(cloud), cloud.rounds.get(enter(cloud)), {})["pairs"] == 0
