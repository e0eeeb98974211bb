"""Table 2 of the paper on one clip: ways to choose n frames, all trained and measured at full size, and all frames.

Where there are many more frames than n, as of a day, to train on all of them takes too long. Random sets stand for
them, each twice as large as the one before, up to the first that no longer gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.strategy import FACTOR, STRATEGIES, Material, missed
from culling.cloud.study.basis.training import Trainer
from culling.cloud.study.studies.selector import features

MANY = 8
"""Everything is trained on where it is at most so many times the largest n."""

GAINS = 0.005
"""A random set still gains where its students' mean AP50, by the teacher, is so much above that of half as many."""


def table2(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and strategy, and one or more of full training, over the seeds.

    Only the random and the learned strategy choose other frames for another seed; the trainings of all differ.
    """
    trainer, factor = Trainer(corpus), FACTOR
    material = Material(corpus.losses(), features(corpus), corpus.hardness)
    hardness = np.array([one.value for one in corpus.hardness(range(len(corpus)))])

    def row(name: str, chosen: list[list[int]]) -> dict[str, Any]:
        n = len(chosen[0])
        lost = [{"missed": missed(hardness[frames], np.delete(hardness, frames), n)} for frames in chosen]
        return {"n": n, "strategy": name} | _trained(trainer, chosen, seeds) | merged(lost)

    rows = [
        row(name, [choose(material, n, factor, seed) for seed in seeds])
        for n in counts
        for name, choose in STRATEGIES.items()
    ]
    last = next(one for one in reversed(rows) if one["strategy"] == "random")
    orders = [np.random.default_rng(seed).permutation(len(corpus)).tolist() for seed in seeds]
    for size in sizes(max(counts), len(corpus)):
        name = "full" if size == len(corpus) else "random, for full"
        rows.append(row(name, [order[:size] for order in orders]))
        gain = rows[-1]["teacher_ap50"] is None or rows[-1]["teacher_ap50"] - last["teacher_ap50"] >= GAINS
        if not gain:
            break
        last = rows[-1]
    return Results(rows, [_table(rows, len(seeds))], (lambda axes: _plot(axes, rows),), {"full_stands_for": last["n"]})


def sizes(largest: int, total: int) -> list[int]:
    """Return the sizes of the sets that stand for all of `total` frames, beyond sets of `largest`."""
    if total <= MANY * largest:
        return [total]
    doubled = [largest * 2**power for power in range(1, total.bit_length())]
    return [*(size for size in doubled if size <= total // 2), total]


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
