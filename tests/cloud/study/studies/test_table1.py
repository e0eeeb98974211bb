from __future__ import annotations

import pytest

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.everything import sizes
from culling.cloud.study.cost import DAY_FRAMES
from culling.cloud.study.studies.table1 import table1


def test_culled_rows_stand_between_no_training_and_all_of_it(corpus: Corpus) -> None:
    found = table1(corpus, (2,), (0,))
    base, culled, full = found.rows
    assert [row["name"] for row in found.rows] == ["no training", "culled 2", "full"]
    assert [(row["labelled"], row["kept"]) for row in found.rows] == [(0, 0), (8, 2), (len(corpus), len(corpus))]
    assert len({tuple(row) for row in found.rows}) == 1, "a table has the same columns in every row"
    for row in (culled, full):
        assert row["teacher_ap50_min"] <= row["teacher_ap50"] <= row["teacher_ap50_max"]
        assert row["clip_training_seconds"] > 0
    assert base["clip_training_seconds"] == full["clip_student_seconds"] == 0
    assert base["day_ratio_paper_seconds"] is full["day_ratio_paper_seconds"] is None
    assert to_png(*found.panels).startswith(b"\x89PNG")


@pytest.mark.parametrize("unit", ["seconds", "gflops"])
@pytest.mark.parametrize("length", ["clip", "day"])
def test_ratios_follow_from_the_stages_beside_them(corpus: Corpus, length: str, unit: str) -> None:
    _, culled, full = table1(corpus, (2,), (0,)).rows
    everything = full[f"{length}_teacher_{unit}"] + full[f"{length}_training_{unit}"]
    stages = {name: culled[f"{length}_{name}_{unit}"] for name in ("student", "teacher", "resolution", "training")}
    assert culled[f"{length}_ratio_paper_{unit}"] == pytest.approx(everything / sum(stages.values()))
    del stages["student"]
    assert culled[f"{length}_ratio_incremental_{unit}"] == pytest.approx(everything / sum(stages.values()))


def test_the_tables_say_which_figures_are_measured_and_which_computed(corpus: Corpus) -> None:
    *_, cost, ratios = table1(corpus, (2,), (0,)).tables
    assert "measured" in cost.note
    assert {row["frames"] for row in ratios.rows} == {"the clip's, measured", f"{DAY_FRAMES:,}, computed"}
    assert all(float(row["culled 2"].replace(",", "")) > 0 for row in ratios.rows)


def test_where_frames_are_many_random_sets_stand_for_all_of_them_at_the_price_of_all(corpus: Corpus) -> None:
    found = table1(corpus, (1,), (0,))
    culled, *stands = found.rows[1:]
    assert len(stands) > 1 or stands[0]["name"] == "full"
    assert [row["labelled"] for row in stands] == sizes(1, len(corpus))[: len(stands)]
    for stand in stands:
        images = len(corpus) * corpus.epochs
        each = stand["clip_training_gflops"] / images
        assert each == pytest.approx(stands[0]["clip_training_gflops"] / images, rel=0.2), "all cost what all frames do"
    assert culled["clip_ratio_paper_gflops"] > 1
    assert [*found.tables[-1].rows[0]] == ["definition", "frames", "unit", "culled 1"]
