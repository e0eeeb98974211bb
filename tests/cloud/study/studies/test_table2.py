from __future__ import annotations

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.everything import sizes
from culling.cloud.study.basis.strategy import STRATEGIES
from culling.cloud.study.studies.table2 import table2


def test_every_strategy_is_trained_and_compared_with_precision_only(corpus: Corpus) -> None:
    found = table2(corpus, (2,), (0,))
    assert [row["strategy"] for row in found.rows] == [*STRATEGIES, "full"]
    rows = {row["strategy"]: row for row in found.rows}
    assert rows["precision"]["missed"] == rows["full"]["missed"] == 0
    assert all(0 <= row["missed"] <= 1 for row in found.rows)
    assert all(row["teacher_ap50_min"] <= row["teacher_ap50"] <= row["teacher_ap50_max"] for row in found.rows)
    assert rows["full"]["steps"] > rows["interval"]["steps"]
    assert "1 seeds" in found.tables[0].title
    assert to_png(*found.panels).startswith(b"\x89PNG")


def test_where_frames_are_many_random_sets_that_double_stand_for_all_of_them(corpus: Corpus) -> None:
    found = table2(corpus, (1,), (0,))
    assert found.rows[-1]["strategy"] in ("full", "random, for full")
    assert found.facts["full_stands_for"] <= found.rows[-1]["n"]
    at = [row["n"] for row in found.rows if row["strategy"] == "random, for full"]
    assert at == sizes(1, len(corpus))[: len(at)]
