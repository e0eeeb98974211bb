"""What a cascade gives: the teacher's boxes in place of the student's, on the frames where the student is least sure.

Each frame of the held-back part that has labels is answered by the student, or by the teacher on a share of them: those
of the highest confidence loss, random ones, or those where its answer mends most by the labels. Only hindsight knows
the last: it tells how much a better choice of frames could give. All is measured by the label file; the teacher's gain
is what it has over the student when it answers everything, and the cost what both compute, over the teacher alone on
every frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from culling.cloud.bill.count import student_cost
from culling.cloud.evaluation.holdout import Truth
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.escalation import Escalation
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled
from culling.cloud.study.basis.training import Trainer

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MEASURES = ("ap50", "ap50_95", "mass")


def cascade(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each student (the base one, and one trained on n culled frames), way to choose and share.

    The first seed trains, all of them draw random frames. Raises InputError without labels to measure by.
    """
    trainer, escalation = Trainer(corpus), Escalation(corpus)
    students = {"base": corpus.base}
    for n in counts:
        chosen = culled(corpus.losses(), corpus.hardness, n, FACTOR)
        students[f"n = {n}"] = corpus.memo.folder / trainer.train(chosen, seeds[0]).weights
    each = student_cost(trainer.start(), corpus.settings.round.frozen).look.gflops(corpus.size(corpus.scale))
    teacher = corpus.teacher.gflops(corpus.height, corpus.width)
    drawn = [escalation.drawn(seed) for seed in seeds]
    rows: list[dict[str, Any]] = []
    for name, weights in students.items():
        own = escalation.own(weights)
        ways = {"unsure": [escalation.unsure(own)], "random": drawn, "hindsight": [escalation.hindsight(own)]}
        for way, orders in ways.items():
            for share in SHARES:
                rows.append({"student": name, "asked about": way, "share": share})
                rows[-1] |= merged([_measured(escalation, own, order, share) for order in orders])
                rows[-1]["cost"] = math.nan if teacher is None else (each + share * teacher) / teacher
    told = {"frames": len(escalation), "student_gflops": each, "teacher_gflops": teacher}
    rows = [row | _gain(row, rows) for row in rows]
    return Results(rows, [_table(rows, len(escalation))], (lambda axes: _plot(axes, rows),), told)


def _measured(escalation: Escalation, own: Truth, order: Sequence[int], share: float) -> dict[str, Any]:
    found = escalation.score(own, order, share)
    return {"ap50": found.ap50, "ap50_95": found.ap50_95, "mass": escalation.mass(own, order, share)}


def _gain(row: Row, rows: Sequence[Row]) -> dict[str, float | None]:
    """Return which share of the teacher's gain over this student is there; None where the teacher is no better."""
    same = {other["share"]: other for other in rows if _line(other) == _line(row)}
    gains: dict[str, float | None] = {}
    for measure in MEASURES:
        none, everything = same[0.0][measure], same[1.0][measure]
        better = everything < none if measure == "mass" else everything > none
        gains[f"gain_{measure}"] = (row[measure] - none) / (everything - none) if better else None
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
            "mistakes": with_spread(row, "mass"),
            "gain, AP50": text(row["gain_ap50"], ".2f"),
            "gain, AP50:95": text(row["gain_ap50_95"], ".2f"),
            "gain, mistakes": text(row["gain_mass"], ".2f"),
            "cost": text(row["cost"], ".2f"),
        }
        for row in rows
    ]
    note = "gain: of the teacher over the student; mistakes: their mass a frame; cost: GFLOPs, over the teacher alone"
    return ResultTable(f"A cascade by the label file, {frames} frames", lines, note)


def _plot(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for line in dict.fromkeys(map(_line, rows)):
        own = [row for row in rows if _line(row) == line]
        axes.plot([row["cost"] for row in own], [row["ap50"] for row in own], marker="o", label=", ".join(line))
    axes.set(title="A cascade", xlabel="cost, over the teacher alone", ylabel="AP50 by the labels")
