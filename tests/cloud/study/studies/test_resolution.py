from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies.resolution import resolution


def test_both_policies_choose_a_scale_that_is_measured_beside_full_size(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.round.shrink.LEAST_FRAMES", 2)
    monkeypatch.setattr("culling.cloud.round.shrink.LEAST_BLOCKS", 1)
    found = resolution(corpus, (4,), (0,))
    assert [row["policy"] for row in found.rows] == ["full size", "loss, hardest", "labels, hardest", "labels, even"]
    assert found.rows[0]["scale"] == 1.0
    for row in found.rows[1:]:
        assert row["passes"] >= 4
        assert 0 < row["scale"] <= 1
        assert row["why"]
    table, _, why = found.tables
    assert table.rows[0]["time"] == "1.00"
    assert table.rows[0]["AP50, labels"].endswith("(+0.000)")
    assert "the last before the confidence loss changes by" in why.rows[0]["why"]
    assert to_png(*found.panels).startswith(b"\x89PNG")
    assert resolution(corpus, (4,), (0,)).rows[1]["seconds"] == found.rows[1]["seconds"], "it is computed once"


def test_few_frames_are_told_in_words(corpus: Corpus) -> None:
    (_, _, hard, even) = resolution(corpus, (2,), (0,)).rows
    assert (hard["scale"], even["scale"]) == (1.0, 1.0)
    assert "cannot tell what a smaller input costs" in hard["why"]


def test_where_a_smaller_scale_is_chosen_students_are_trained_for_it_and_for_full_size(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    lax = corpus.settings.resolution.model_copy(update={"threshold": 1e9, "max_steps": 4})
    monkeypatch.setattr(corpus, "settings", corpus.settings.model_copy(update={"resolution": lax}))
    found = resolution(corpus, (4,), (0,))
    whole, by_loss, *_ = found.rows
    assert by_loss["scale"] < whole["scale"]
    assert found.tables[1].rows[0]["scale by"] == "loss, hardest, n = 4"
    for row in found.rows:
        full = row["scale"] == whole["scale"]
        assert (row["shipped_labels_ap50"] is None) == full
        assert (row["whole_teacher_ap50_95"] is None) == full
    assert len(list(corpus.memo.folder.glob("trial-*.json"))) >= 2, "one for the scale, one for full size"
