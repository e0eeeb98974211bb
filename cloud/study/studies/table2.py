"""Table 2 of the paper on one clip: ways to choose n frames, all trained and measured at full size, and all frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.strategy import FACTOR, STRATEGIES, missed
from culling.cloud.study.basis.training import Trainer


def table2(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and strategy, and one of full training, over the seeds.

    All strategies but the random one choose the same frames for every seed; their trainings still differ.
    """
    trainer, losses, factor = Trainer(corpus), corpus.losses(), FACTOR
    everything, rows = list(range(len(corpus))), []
    hardness = np.array([one.value for one in corpus.hardness(everything)])
    for n in counts:
        for name, choose in STRATEGIES.items():
            chosen = [choose(losses, corpus.hardness, n, factor, seed) for seed in seeds]
            lost = [{"missed": missed(hardness[frames], np.delete(hardness, frames), n)} for frames in chosen]
            rows.append({"n": n, "strategy": name} | _trained(trainer, chosen, seeds) | merged(lost))
    full = {"n": len(corpus), "strategy": "full"} | _trained(trainer, [everything] * len(seeds), seeds)
    rows.append(full | merged([{"missed": 0.0}]))
    return Results(rows, [_table(rows, len(seeds))], (lambda axes: _plot(axes, rows),))


def _trained(trainer: Trainer, chosen: Sequence[Sequence[int]], seeds: Sequence[int]) -> dict[str, Any]:
    trained = [trainer.train(frames, seed) for frames, seed in zip(chosen, seeds, strict=True)]
    flats = [trainer.score(student, trainer.corpus.scale).flat() for student in trained]
    return {"steps": trained[0].steps} | merged(flats)


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
