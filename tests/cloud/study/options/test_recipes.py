from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.options.recipes import (
    APPRENTICE,
    BASE,
    CASCADE,
    DISTILLED,
    ONE,
    PLAIN,
    POSTED,
    SHARE,
    TEACHER,
    recipes,
)

TRAINED = [PLAIN, ONE, SHARE, POSTED, APPRENTICE, CASCADE]


def test_every_recipe_has_its_precision_and_its_bill(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = corpus.settings.round.model_copy(update={"warmup": 1})
    monkeypatch.setattr(corpus, "settings", corpus.settings.model_copy(update={"round": settings}))
    monkeypatch.setattr(corpus, "epochs", 4.0)
    found = recipes(corpus, (3,), (0, 1))
    assert [row["recipe"] for row in found.rows] == [BASE, TEACHER, *TRAINED]
    by = {row["recipe"]: row for row in found.rows}
    assert by[TEACHER]["ap50"] == pytest.approx(1.0), "the teacher of this clip sees what its labels say"
    assert by[BASE]["bytes"] is None
    assert {by[name]["labelled"] for name in TRAINED} == {12}
    assert by[APPRENTICE]["steps"] > by[POSTED]["steps"] == by[PLAIN]["steps"]
    assert by[APPRENTICE]["training_gflops"] > by[PLAIN]["training_gflops"]
    assert by[SHARE]["bytes"] < by[PLAIN]["bytes"] < by[PLAIN]["whole"]
    assert by[POSTED]["whole"] < by[PLAIN]["whole"]
    assert by[CASCADE]["look_gflops"] == pytest.approx(by[PLAIN]["look_gflops"] + 0.2 * by[TEACHER]["look_gflops"])
    assert by[CASCADE]["ap50"] >= by[PLAIN]["ap50"]
    wanted = found.tables[1].rows
    assert [row["recipe"] for row in wanted] == [
        "one teacher to two",
        SHARE,
        SHARE,
        POSTED,
        APPRENTICE,
        CASCADE,
        CASCADE,
    ]
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    assert recipes(corpus, (3,), (0, 1)).rows == found.rows


def test_a_study_of_one_teacher_has_no_row_of_one(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = corpus.settings.teacher.model_copy(update={"kind": "bundled"})
    monkeypatch.setattr(corpus, "settings", corpus.settings.model_copy(update={"teacher": teacher}))
    assert [row["recipe"] for row in recipes(corpus, (2,), (0,)).rows].count(ONE) == 0


def test_a_student_that_its_teacher_can_distil_is_distilled(tutored: Corpus) -> None:
    found = recipes(tutored, (2,), (0,))
    by = {row["recipe"]: row for row in found.rows}
    assert by[DISTILLED]["steps"] == by[PLAIN]["steps"]
    assert by[DISTILLED]["bytes"] != by[PLAIN]["bytes"], "it learnt something else"
    assert [row["wanted"] for row in found.tables[1].rows if row["recipe"] == DISTILLED] == ["AP50:95 >= +.020"]
