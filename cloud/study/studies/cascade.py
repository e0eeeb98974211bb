"""What a cascade gives: the teacher's boxes in place of the student's, on the frames where the student is least sure.

Each frame of the held-back part that has labels is answered by the student, or by the teacher on a share of them: those
of the highest confidence loss, or random ones. It is measured by the label file; the teacher's gain is what it has over
the student when it answers everything, and the cost what both compute, over the teacher alone on every frame.

It is a cascade without a deadline or an allowance, and the worst frames are those of the whole part: a threshold that
follows the stream, as the edge has, knows only those before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from culling.cloud.bill.count import student_cost
from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.evaluation.holdout import HeldOut, Truth
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled
from culling.cloud.study.basis.training import Trainer
from culling.common.errors import InputError

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MEASURES = ("ap50", "ap50_95")


def cascade(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each student (the base one, and one trained on n culled frames), way to choose and share.

    The first seed trains, all of them draw random frames. Raises InputError without labels to measure by.
    """
    trainer = Trainer(corpus)
    held = HeldOut(
        replace(corpus.measured, numbers=frozenset()), corpus.labeller, corpus.interest
    )  # labelled ones only
    answers = held.answers(corpus.labeller, corpus.graph.info.classes)
    students = {"base": corpus.base}
    for n in counts:
        chosen = culled(corpus.losses(), corpus.hardness, n, FACTOR)
        students[f"n = {n}"] = corpus.memo.folder / trainer.train(chosen, seeds[0]).weights
    each = student_cost(trainer.start(), corpus.settings.round.frozen).look.gflops(corpus.size(corpus.scale))
    teacher = corpus.teacher.gflops(corpus.height, corpus.width)
    rows: list[dict[str, Any]] = []
    for name, weights in students.items():
        found = held.found(weights, corpus.scale, corpus.settings.student.long_side)
        own = {number: found[number] for number in answers}
        for way, orders in _orders(corpus, own, seeds).items():
            for share in SHARES:
                rows.append({"student": name, "asked about": way, "share": share})
                rows[-1] |= merged([_flat(held.by_labels(_mixed(own, answers, order, share))) for order in orders])
                rows[-1]["cost"] = math.nan if teacher is None else (each + share * teacher) / teacher
    told = {"frames": len(answers), "student_gflops": each, "teacher_gflops": teacher}
    rows = [row | _gain(row, rows) for row in rows]
    return Results(rows, [_table(rows, len(answers))], (lambda axes: _plot(axes, rows),), told)


def _orders(corpus: Corpus, own: Truth, seeds: Sequence[int]) -> dict[str, list[list[int]]]:
    """Return in which order frames are asked about, for each way and draw."""
    meter, numbers = corpus.meter("paper"), sorted(own)
    losses = {number: meter.loss(own[number]) for number in numbers}
    drawn = [np.random.default_rng(seed).permutation(numbers).tolist() for seed in seeds]
    return {"unsure": [sorted(numbers, key=lambda number: -losses[number])], "random": drawn}


def _mixed(own: Truth, answers: Truth, order: Sequence[int], share: float) -> Truth:
    """Return the student's detections with the teacher's in place of the first `share` of the frames in `order`."""
    return own | {number: answers[number] for number in order[: round(share * len(order))]}


def _flat(result: EvaluationResult | None) -> dict[str, float | None]:
    if result is None:
        raise InputError("--labels: no frame of the part that is held back has an object to measure by")
    return {measure: getattr(result, measure) for measure in MEASURES}


def _gain(row: Row, rows: Sequence[Row]) -> dict[str, float | None]:
    """Return which share of the teacher's gain over this student is there; None where the teacher is no better."""
    same = {other["share"]: other for other in rows if _line(other) == _line(row)}
    gains: dict[str, float | None] = {}
    for measure in MEASURES:
        none, everything = same[0.0][measure], same[1.0][measure]
        gains[f"gain_{measure}"] = (row[measure] - none) / (everything - none) if everything > none else None
    return gains


def _line(row: Row) -> tuple[str, str]:
    return row["student"], row["asked about"]


def _table(rows: Sequence[Row], frames: int) -> ResultTable:
    lines = [
        {
            "student": row["student"],
            "asked about": row["asked about"],
            "share": f"{row['share']:.0%}",
            "AP50": with_spread(row, "ap50"),
            "AP50:95": with_spread(row, "ap50_95"),
            "gain, AP50": text(row["gain_ap50"], ".2f"),
            "gain, AP50:95": text(row["gain_ap50_95"], ".2f"),
            "cost": text(row["cost"], ".2f"),
        }
        for row in rows
    ]
    note = "gain: of the teacher over the student; cost: in GFLOPs, over the teacher on every frame"
    return ResultTable(f"A cascade by the label file, {frames} frames", lines, note)


def _plot(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for line in dict.fromkeys(map(_line, rows)):
        own = [row for row in rows if _line(row) == line]
        axes.plot([row["cost"] for row in own], [row["ap50"] for row in own], marker="o", label=", ".join(line))
    axes.set(title="A cascade", xlabel="cost, over the teacher alone", ylabel="AP50 by the labels")
