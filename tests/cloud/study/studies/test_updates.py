from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies.updates import updates


def test_culled_and_all_frames_take_the_same_steps_and_are_trained_only_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.study.studies.updates.STEPS", (1, 2))
    found = updates(corpus, (2,), (0,))
    assert [(row["students"], row["steps"], row["kept"]) for row in found.rows] == [
        ("no training", 0, 0),
        ("culled 2", 1, 2),
        ("round's 2", 1, 2),
        ("everything", 1, len(corpus)),
        ("culled 2", 2, 2),
        ("round's 2", 2, 2),
        ("everything", 2, len(corpus)),
    ]
    assert found.tables[0].rows[0]["over everything"] == "-"
    assert found.tables[0].rows[3]["over everything"] == "+0.000"
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    assert updates(corpus, (2,), (0,)).rows == found.rows
