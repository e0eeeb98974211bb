from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.frame import Detections
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.selection.features import FEATURES, SPEC
from culling.common.selection.ranker import Ranker
from culling.common.wire.manifest import Manifest
from culling.edge.scoring import Score, Scorer
from culling.edge.settings import ConfidenceSettings
from support import tiny
from support.scores import ranker

MANIFEST = tiny.ship(tiny.student(), Ed25519PrivateKey.generate()).manifest


def shipped(rule: Ranker | None) -> Manifest:
    return msgspec.structs.replace(MANIFEST, ranker=rule)


def seen(*scores: float, label: int = 0, side: float = 50) -> Detections:
    boxes = np.tile(np.array([0, 0, side, side], np.float32), (len(scores), 1))
    return Detections(boxes, np.array(scores, np.float32), np.full(len(scores), label, np.int64))


def of(scorer: Scorer, found: Detections) -> Score:
    return scorer.score(found, 160, 128)


def test_without_a_ranker_a_frame_is_worth_its_loss() -> None:
    scorer = Scorer(MANIFEST, ConfidenceSettings())
    score = of(scorer, seen(0.5, 0.3))
    assert not scorer.learned
    assert score.worth == score.loss == LossMeter(POLICIES["paper"], 6).loss(seen(0.5, 0.3))


def test_with_a_ranker_it_is_worth_what_that_predicts_and_keeps_its_loss() -> None:
    scorer = Scorer(shipped(ranker(bias=0.25, best_score=0.5)), ConfidenceSettings())
    score = of(scorer, seen(0.5, 0.3))
    assert scorer.learned
    assert score.worth == pytest.approx(0.5)
    assert score.loss == LossMeter(POLICIES["paper"], 6).loss(seen(0.5, 0.3))


def test_a_frame_in_which_nothing_was_found_may_be_worth_something() -> None:
    score = of(Scorer(shipped(ranker(bias=0.4)), ConfidenceSettings()), Detections.empty())
    assert (score.loss, score.worth) == (0.0, 0.4)


@pytest.mark.parametrize("other", [ranker(1.0, SPEC + 1), Ranker(SPEC, (0.0,), (1.0,), (0.5,), 1.0)])
def test_a_ranker_of_other_features_is_not_asked(other: Ranker) -> None:
    scorer = Scorer(shipped(other), ConfidenceSettings())
    assert not scorer.learned
    assert of(scorer, Detections.empty()).worth == 0.0


def test_a_ranker_may_be_refused_by_the_settings() -> None:
    assert not Scorer(shipped(ranker(1.0)), ConfidenceSettings(ranking="loss")).learned


@pytest.mark.parametrize("settings", [{"interest": ("bus",)}, {"min_side": 60.0}])
def test_what_does_not_count_has_no_features_either(settings: dict[str, Any]) -> None:
    score = of(Scorer(MANIFEST, ConfidenceSettings(**settings)), seen(0.9))
    assert score.features.values == [0.0] * len(FEATURES)


def test_features_tell_of_the_change_since_the_frame_before() -> None:
    scorer = Scorer(MANIFEST, ConfidenceSettings())
    of(scorer, seen())
    features = of(scorer, seen(0.9)).features
    assert features.spec == SPEC
    assert features.values[FEATURES.index("come")] > 0


def test_a_score_out_of_range_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="scores"):
        of(Scorer(MANIFEST, ConfidenceSettings()), seen(1.5))
