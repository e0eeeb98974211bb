"""A frame's score, as the spool and the recorder are given it, and a ranker that says what a test wants."""

from __future__ import annotations

from culling.common.selection import features
from culling.common.selection.ranker import Ranker
from culling.common.wire.messages import WireFeatures
from culling.edge.scoring import Score

FEATURES = WireFeatures(1, [0.5, -2.0])


def score(loss: float = 1.0, worth: float | None = None) -> Score:
    """Return the score of a frame that is chosen by its loss, or by another `worth`."""
    return Score(loss, loss if worth is None else worth, FEATURES)


def ranker(bias: float = 0.0, spec: int = features.SPEC, **weights: float) -> Ranker:
    """Return the ranker of these weights, by the feature's name."""
    size = len(features.FEATURES)
    vector = tuple(weights.pop(name, 0.0) for name in features.FEATURES)
    assert not weights, weights
    return Ranker(spec, (-1e6,) * size, (1e6,) * size, vector, bias)
