from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.options.cascade import SHARES, cascade


def test_each_student_and_way_goes_from_its_own_answers_to_the_teachers(corpus: Corpus) -> None:
    found = cascade(corpus, (2,), (0, 1))
    assert [(row["student"], row["asked about"], row["share"]) for row in found.rows] == [
        (student, way, share)
        for student in ("base", "n = 2")
        for way in ("unsure", "random", "hindsight")
        for share in SHARES
    ]
    for row in found.rows:
        if row["share"] == 1.0:
            assert row["ap50"] == pytest.approx(1.0), "the teacher of this clip sees what its labels say"
        assert row["gain_ap50"] == pytest.approx(1.0 if row["share"] == 1.0 else row["gain_ap50"])
    costs = [row["cost"] for row in found.rows[: len(SHARES)]]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(1.0 + costs[0]), "the student looks at every frame"
    assert to_png(*found.panels).startswith(b"\x89PNG")
