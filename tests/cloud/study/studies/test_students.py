from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import forms, training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.forms import FORMS
from culling.cloud.study.studies.students import TRAINED, students

ROWS = [
    (family, trained, form)
    for family in ("faster-rcnn-resnet18", "yolox")
    for trained, forms in (("no", FORMS), ("n = 2", (*FORMS, TRAINED)))
    for form in forms
]


def test_both_families_are_measured_before_and_after_in_floats_and_8_bits_and_trained_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = students(corpus, (2,), (0,))
    teacher, *rows = found.rows
    assert (teacher["student"], teacher["labels_ap50"], teacher["ms"]) == ("teacher", 1.0, None)
    assert [(row["student"], row["trained"], row["form"]) for row in rows] == ROWS
    for floats, *eights in (rows[:2], rows[2:5], rows[5:7], rows[7:]):
        for eight in eights:
            assert eight["bytes"] < floats["bytes"]
            assert min(floats["ms"], eight["ms"]) > 0
            assert floats["labels_ap50"] is not None
            assert eight["teacher_ap50_95"] is not None
    assert [row["steps"] for row in rows] == [0, 0, 1, 1, 1] * 2
    table, classes = found.tables
    assert table.rows[1]["student"] == "faster-rcnn-resnet18"
    assert classes.rows[0].keys() == {"student", "trained", "form", "car (3)"}
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    monkeypatch.setattr(forms, "quantise", None)
    again = students(corpus, (2,), (0,)).rows
    assert [row["labels_ap50"] for row in again] == [row["labels_ap50"] for row in found.rows]


def test_another_family_sees_the_same_frames_and_labels(corpus: Corpus) -> None:
    other = corpus.beside("yolox")
    assert [shot.number for shot in other.shots] == [shot.number for shot in corpus.shots]
    assert other.held_out is corpus.held_out
    assert other.artefact.sha256 != corpus.artefact.sha256
