from __future__ import annotations

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies.fig4 import fig4


def test_every_scale_has_its_precision_change_and_milliseconds_and_one_is_chosen(corpus: Corpus) -> None:
    found = fig4(corpus, (2,), (0,))
    scales = [row["scale"] for row in found.rows]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] == 1.0
    assert [row["chosen"] for row in found.rows].count(True) == 1
    assert found.rows[0]["mse"] == 0
    assert all(row["ms"] > 0 and 0 <= row["teacher_ap50"] <= 1 for row in found.rows)
    threshold = corpus.settings.resolution.threshold
    for row in found.rows:
        assert row["normalised"] <= threshold or not row["chosen"]
    assert sum(line["scale"].endswith("*") for line in found.tables[0].rows) == 1
    for row in found.rows:
        assert (row["shipped_teacher_ap50"] is None) is not row["chosen"]
    (cost,) = found.tables[1].rows
    assert cost["AP50, teacher, full size"] == f"{found.rows[0]['teacher_ap50']:.3f}"
    assert to_png(*found.panels).startswith(b"\x89PNG")
