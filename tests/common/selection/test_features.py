"""What each feature of a frame says, by hand; and that all of them stay numbers whatever a student puts out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from culling.common.frame import Detections
from culling.common.selection.features import FEATURES, SPEC, FeatureMeter, read
from culling.common.wire.messages import MAX_FEATURES, WireFeatures

SIZE = (200, 100)


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def named(meter: FeatureMeter, found: Detections, loss: float = 0.0) -> dict[str, float]:
    return dict(zip(FEATURES, meter.features(found, loss, *SIZE).tolist(), strict=True))


def test_the_features_of_an_empty_frame_are_all_zero() -> None:
    assert not any(named(FeatureMeter(), Detections.empty()).values())


def test_scores_are_counted_by_how_sure_they_are() -> None:
    rows = [(50, 50, 60, 60, x, 0) for x in (0.9, 0.6, 0.3, 0.1)]
    told = named(FeatureMeter(), seen(*rows), loss=3.0)
    assert told["loss"] == pytest.approx(math.asinh(3))
    counts = [round(math.sinh(told[name])) for name in ("faint", "possible", "likely", "sure")]
    assert counts == [1, 3, 2, 1]
    doubt = 0.9 * 0.1 + 0.6 * 0.4 + 0.3 * 0.7
    assert (math.sinh(told["doubt"]), told["mean_doubt"]) == pytest.approx((doubt, doubt / 3))
    assert (told["mean_score"], told["least_score"], told["best_score"]) == pytest.approx((0.6, 0.3, 0.9))


def test_sizes_are_shares_of_the_frame() -> None:
    told = named(FeatureMeter(), seen((50, 50, 58, 54, 0.9, 0), (100, 10, 140, 30, 0.9, 0)))
    assert (told["smallest"], told["median_side"], told["small"]) == pytest.approx((0.04, 0.2, 0.5))


def test_boxes_at_the_border_and_on_each_other_are_told_apart() -> None:
    rows = [(0, 20, 20, 40, 0.9, 0), (100, 40, 140, 60, 0.9, 0), (102, 40, 142, 60, 0.8, 2), (80, 60, 90, 100, 0.9, 2)]
    told = named(FeatureMeter(), seen(*rows))
    assert (told["at_border"], told["crowded"]) == (0.5, 0.5)
    assert (told["classes"], told["commonest"]) == (2.0, 0.5)


def test_a_first_frame_has_not_changed() -> None:
    told = named(FeatureMeter(), seen((50, 50, 60, 60, 0.9, 0)), loss=2.0)
    changes = ("come", "gone", "more", "score_change", "relabelled", "loss_change")
    assert [told[name] for name in changes] == [0.0] * 6


def test_boxes_that_come_go_and_change_are_told_from_the_frame_before() -> None:
    meter = FeatureMeter()
    named(meter, seen((50, 50, 60, 60, 0.9, 0), (10, 10, 20, 20, 0.5, 1), (150, 50, 160, 60, 0.4, 0)), loss=1.0)
    told = named(meter, seen((51, 50, 61, 60, 0.7, 2), (11, 10, 21, 20, 0.5, 1), (100, 80, 110, 90, 0.8, 0)), loss=2.0)
    assert [round(math.sinh(told[name])) for name in ("come", "gone", "more")] == [1, 1, 0]
    assert (told["score_change"], told["relabelled"]) == pytest.approx((0.1, 0.5))
    assert told["loss_change"] == pytest.approx(math.asinh(2) - math.asinh(1))
    told = named(meter, Detections.empty())
    assert [round(math.sinh(told[name])) for name in ("come", "gone", "more")] == [0, 3, -3]


def test_boxes_elsewhere_all_came_and_went() -> None:
    meter = FeatureMeter()
    named(meter, seen((50, 50, 60, 60, 0.9, 0)))
    told = named(meter, seen((150, 50, 160, 60, 0.9, 0)))
    assert [round(math.sinh(told[name])) for name in ("come", "gone", "more")] == [1, 1, 0]


@given(
    st.lists(
        st.tuples(
            arrays.arrays(np.float32, 4, elements=st.floats(-1e4, 1e4, width=32)),
            st.floats(0, 1, width=32),
            st.integers(0, 5),
        ),
        max_size=8,
    ),
    st.floats(-1e6, 1e6),
)
def test_every_feature_is_a_bounded_number(rows: list[tuple[np.ndarray, float, int]], loss: float) -> None:
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    found = Detections(boxes, scores, np.array([label for *_, label in rows], np.int64))
    meter = FeatureMeter()
    for _ in range(2):
        vector = meter.features(found, loss, *SIZE)
        assert vector.shape == (len(FEATURES),)
        assert vector.dtype == np.float64
        assert np.all(np.abs(vector) < 1e6)


def test_features_of_another_spec_or_number_are_not_read() -> None:
    values = [0.5] * len(FEATURES)
    told = read(WireFeatures(SPEC, values))
    assert told is not None
    assert told.tolist() == values
    for others in (None, WireFeatures(SPEC + 1, values), WireFeatures(SPEC, values[1:])):
        assert read(others) is None


def test_the_features_fit_into_a_message() -> None:
    assert len(set(FEATURES)) == len(FEATURES) <= MAX_FEATURES
