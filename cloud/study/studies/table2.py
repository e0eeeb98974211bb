"""Table 2 of the paper on one clip: ways to choose n frames, all trained and measured at full size, and all frames.

Where there are many more frames than n, as of a day, random sets stand for all of them (`basis/everything.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.everything import stands
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.strategy import FACTOR, STRATEGIES, Material, missed
from culling.cloud.study.basis.training import Scores, TrainedStudent, Trainer
from culling.cloud.study.studies.selector import features


def table2(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and strategy, and one or more of full training, over the seeds.

    Only the random and the learned strategy choose other frames for another seed; the trainings of all differ.
    """
    trainer, factor = Trainer(corpus), FACTOR
    material = Material(corpus.losses(), features(corpus), corpus.hardness)
    hardness = np.array([one.value for one in corpus.hardness(range(len(corpus)))])

    def row(
        name: str, chosen: Sequence[list[int]], students: Sequence[TrainedStudent], scores: Sequence[Scores]
    ) -> dict[str, Any]:
        n = len(chosen[0])
        lost = [{"missed": missed(hardness[frames], np.delete(hardness, frames), n)} for frames in chosen]
        told = {"n": n, "strategy": name, "steps": students[0].steps}
        return told | merged([one.flat() for one in scores]) | merged(lost)

    rows = []
    for n in counts:
        for name, choose in STRATEGIES.items():
            chosen = [choose(material, n, factor, seed) for seed in seeds]
            rows.append(row(name, chosen, *trainer.over(chosen, seeds)))
    stood_for = max(counts)
    largest = next(one for one in reversed(rows) if one["strategy"] == "random")
    for stand in stands(trainer, max(counts), seeds, largest["teacher_ap50"]):
        rows.append(row(stand.name, stand.chosen, stand.students, stand.scores))
        stood_for = stand.size if stand.gains else stood_for
    return Results(rows, [_table(rows, len(seeds))], (lambda axes: _plot(axes, rows),), {"full_stands_for": stood_for})


def _table(rows: Sequence[Row], seeds: int) -> ResultTable:
    return ResultTable(
        f"Table 2: strategies, mean (least..most) of {seeds} seeds",
        [
            {
                "strategy": row["strategy"],
                "n": str(row["n"]),
                "steps": str(row["steps"]),
                "VOC07, teacher": with_spread(row, "teacher_voc07"),
                "AP50": with_spread(row, "teacher_ap50"),
                "AP50:95": with_spread(row, "teacher_ap50_95"),
                "AP50, labels": with_spread(row, "labels_ap50"),
                "AP50:95, labels": with_spread(row, "labels_ap50_95"),
                "missed": with_spread(row, "missed"),
            }
            for row in rows
        ],
        "missed: share of the n hardest frames, precision-only's picks, that the strategy does not choose",
    )


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["strategy"] if row["strategy"] == "full" else f"{row['strategy']}\nn = {row['n']}" for row in rows]
    for key, label in (("teacher_ap50", "against the teacher"), ("labels_ap50", "against the labels")):
        if all(row[key] is not None for row in rows):
            least = [row[key] - row[f"{key}_min"] for row in rows]
            most = [row[f"{key}_max"] - row[key] for row in rows]
            axes.errorbar(names, [row[key] for row in rows], [least, most], fmt="o", capsize=4, label=label)
    axes.tick_params(axis="x", labelsize=8, rotation=20)
    axes.set(title="Students by what they learnt from", ylabel="AP50")
