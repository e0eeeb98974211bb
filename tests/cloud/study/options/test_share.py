from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.options.share import share


def test_fewer_weights_that_move_are_fewer_bytes_that_travel(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = corpus.settings.round.model_copy(update={"warmup": 1})
    monkeypatch.setattr(corpus, "settings", corpus.settings.model_copy(update={"round": settings}))
    monkeypatch.setattr(corpus, "epochs", 4.0)
    found = share(corpus, (4,), (0,))
    assert [(row["n"], row["share"]) for row in found.rows] == [(0, 0.0), (4, 1.0), (4, 0.2), (4, 0.05)]
    none, every, fifth, twentieth = (row["bytes"] for row in found.rows)
    assert none is None
    assert found.facts["whole"] > every > fifth > twentieth > 0
    assert found.tables[0].rows[0]["to all"] == "-"
    assert found.tables[0].rows[1]["to all"] == "+0.000"
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(training, "retrain", None)
    again = share(corpus, (4,), (0,)).rows
    assert [row["bytes"] for row in again] == [row["bytes"] for row in found.rows]
