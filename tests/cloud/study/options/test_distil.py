from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.options.distil import distil
from culling.common.errors import ModelError


def test_students_are_trained_with_and_without_the_teacher_and_compared(
    tutored: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = distil(tutored, (4,), (0,))
    ways = [(row["n"], row["way"]) for row in found.rows]
    assert ways == [(0, "the teacher itself"), (0, "not"), (4, "labels"), (4, "labels and teacher")]
    own, base, plain, taught = found.rows
    assert own["labels_ap50"] is not None
    assert own["teacher_ap50"] is None, "by itself it is right in everything"
    assert base["step_s"] is None
    assert min(plain["step_s"], taught["step_s"]) > 0
    assert plain["labels_ap50_95"] is not None
    assert found.facts["bytes_a_frame"] > 1000
    gained = [row["gained"] for row in found.tables[0].rows]
    assert gained[:3] == ["-", "-", "-"]
    assert float(gained[3]) == pytest.approx(taught["labels_ap50_95"] - plain["labels_ap50_95"], abs=6e-4)
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    monkeypatch.setattr(tutored.teacher, "label", None)
    assert distil(tutored, (4,), (0,)).rows == found.rows, "nothing is computed twice"


def test_a_teacher_without_features_is_refused_in_a_line(corpus: Corpus) -> None:
    with pytest.raises(ModelError, match=r"round\.distil: the teacher ensemble has no features to learn from"):
        distil(corpus, (4,), (3,))
