from __future__ import annotations

import msgspec
import numpy as np
import pytest

from culling.common.selection.features import FEATURES, SPEC
from culling.common.selection.ranker import Ranker
from culling.common.wire.messages import MAX_FEATURES
from support.scores import ranker

TWO = {"spec": 1, "low": (0.0, -1.0), "high": (2.0, 1.0), "weights": (0.25, 0.5), "bias": 0.1}


def test_a_prediction_by_hand() -> None:
    assert Ranker(**TWO).predict(np.array([1.0, 0.5])) == pytest.approx(0.6)


def test_features_beyond_the_range_it_was_fitted_on_count_as_its_end() -> None:
    assert Ranker(**TWO).predict(np.array([9.0, -9.0])) == pytest.approx(0.1)


def test_frames_beyond_the_range_that_was_learnt_keep_their_order() -> None:
    predicted = ranker(bias=0.9, loss=1.0).predict(np.eye(len(FEATURES))[:1] * np.array([[0.2], [0.4], [-3.0]]))
    assert predicted == pytest.approx([1.1, 1.3, -2.1])


def test_one_fitted_to_other_features_is_not_known() -> None:
    assert ranker().known
    assert not ranker(spec=SPEC + 1).known
    assert not Ranker(**TWO).known


def test_it_comes_back_from_the_wire_as_it_was() -> None:
    rule = ranker(0.5, loss=0.25, gone=-0.125)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(rule), type=Ranker) == rule


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": (0.25,)},
        {"low": ()},
        {"bias": float("nan")},
        {"weights": (float("inf"), 0.0)},
        {"high": (2e9, 1.0)},
        {"spec": -1},
        {"more": 1},
        dict.fromkeys(("low", "high", "weights"), (0.0,) * (MAX_FEATURES + 1)),
    ],
)
def test_what_is_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    blob = msgspec.msgpack.encode(TWO | changes)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(blob, type=Ranker)
