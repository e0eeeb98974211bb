from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.precision import Hardness
from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies import selector as gain
from culling.cloud.study.studies.selector import SHARES, gained, rankings, selector, spread_out
from culling.common.errors import InputError

GAINS = np.array([0.0, 0.5, 0.0, 1.0, 0.5])


def test_what_is_gained_is_what_the_frames_of_the_highest_values_hold() -> None:
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert [gained(values, GAINS, count) for count in range(6)] == [0, 0, 0.25, 0.25, 0.75, 1]
    assert [gained(GAINS, GAINS, count) for count in (1, 2, 3)] == [0.5, 0.75, 1]


def test_of_frames_with_equal_values_the_expected_gain_counts() -> None:
    assert [gained(np.zeros(5), GAINS, count) for count in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    values = np.array([9.0, 1.0, 1.0, 1.0, 0.0])
    assert gained(values, GAINS, 2) == pytest.approx((0 + 0.5) / 2), "one of three that hold 1.5 between them"


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_the_first_frames_of_an_even_order_lie_far_apart(count: int) -> None:
    order = np.argsort(-spread_out(count), kind="stable")
    assert sorted(order) == list(range(count))
    for taken in (2, 4, 8):
        if taken <= count // 4:
            assert np.diff(sorted(order[:taken])).min() >= count // (2 * taken)


def test_every_ranking_is_measured_on_the_second_half_alone(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(corpus) // 2
    first_only = np.zeros(len(corpus))
    first_only[:half] = 1.0
    known = rankings(corpus, first_only)
    assert set(known) == {
        "paper",
        "zero-intercept",
        "reference",
        "per-object",
        "learned",
        "random",
        "interval",
        "oracle",
    }
    monkeypatch.setattr(gain, "rankings", lambda corpus, hardness: rankings(corpus, hardness) | {"first": first_only})
    found = selector(corpus, (2,), (0,))
    rows = {row["ranking"]: row for row in found.rows}
    keys = [f"gain_at_{share:g}" for share in SHARES]
    assert [rows["first"][key] for key in keys] == pytest.approx([rows["random"][key] for key in keys])
    assert all(rows["oracle"][key] >= row[key] - 1e-9 for row in found.rows for key in keys)
    assert found.facts["frames"] == len(corpus) - half
    assert to_png(*found.panels).startswith(b"\x89PNG")


def test_what_is_learnt_is_learnt_from_the_first_half_alone(corpus: Corpus) -> None:
    half, hardness = len(corpus) // 2, np.linspace(0.0, 1.0, len(corpus))
    other = np.concatenate([hardness[:half], 1.0 - hardness[half:]])
    np.testing.assert_array_equal(rankings(corpus, hardness)["learned"], rankings(corpus, other)["learned"])


def test_where_the_student_is_right_there_is_nothing_to_rank(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(corpus), "hardness", lambda self, indices: [Hardness(0.0, "easy")] * len(indices))
    with pytest.raises(InputError, match="nothing to gain"):
        selector(corpus, (2,), (0,))
