from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies import unseen as study
from culling.cloud.study.studies.unseen import unseen
from culling.common.errors import InputError


def test_a_class_without_frames_that_lack_it_cannot_be_studied(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="no class has 20 objects to measure by and 2 frames without any: lower"):
        unseen(corpus, (2,), (0,))


def test_students_of_frames_that_lack_a_class_are_trained_both_ways_and_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "LEAST", 1)
    monkeypatch.setattr(study, "_lacking", lambda corpus, label: [1, 3, 5, 7])
    found = unseen(corpus, (2, 9), (0, 1))
    assert [(row["class"], row["n"], row["trained"]) for row in found.rows] == [
        ("car", 2, "not"),
        ("car", 2, "background"),
        ("car", 2, "spared"),
    ]
    assert all(row["labels_class"] is not None and row["teacher_mean"] is not None for row in found.rows)
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    assert unseen(corpus, (2, 9), (0, 1)).rows == found.rows


def test_frames_lack_a_class_where_the_teacher_sees_none(corpus: Corpus) -> None:
    assert study._lacking(corpus, 2) == []
    assert study._lacking(corpus, 4) == list(range(len(corpus)))
