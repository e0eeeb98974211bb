from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies.picks import _lost, halves, picks


def test_every_first_stage_is_judged_by_both_policies(corpus: Corpus) -> None:
    found = picks(corpus, (1, 2), (0, 1))
    policies, stages = ("1 - AP", "mistakes"), ("confidence", "learned, 1 - AP", "learned, mistakes", "random")
    assert [(row["n"], row["policy"], row["first stage"]) for row in found.rows] == [
        (n, policy, stage) for n in (1, 2) for policy in policies for stage in stages
    ]
    assert all(0 <= row["missed"] <= 1 for row in found.rows)
    assert to_png(*found.panels).startswith(b"\x89PNG")


def test_what_is_lost_is_counted_in_each_half_by_itself() -> None:
    worth = np.array([9.0, 1, 1, 1, 5, 1, 1, 1])
    assert _lost(worth, worth, 1, 2) == 0
    assert _lost(np.array([0.0, 1, 2, 3, 3, 2, 1, 0]), worth, 1, 2) == pytest.approx(0.5)
    assert [half.tolist() for half in halves(5)] == [[0, 1], [2, 3, 4]]
