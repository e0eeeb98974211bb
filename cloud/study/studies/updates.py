"""Is a culled set better, or only trained on more often? {culled n, everything} at equal numbers of updates.

Students on culled frames and on every frame take the same steps, of `STEPS` each, all at full size. Where everything
catches up with more steps, culling saved time; where it does not, what was culled was in the way.

    culled n       the paper's: the n of the highest 1 - AP among `FACTOR` times as many of the highest loss
    round's n      what a round with `round.kept = n` trains on: by mistakes, diverse, with its replay
    everything     all frames
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.pool import as_a_round
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled
from culling.cloud.study.basis.training import Trainer

STEPS = (160, 500)
"""What a round of few passes takes, and what one until its plateau does."""


def updates(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and everything, at each number of steps, over the seeds."""
    trainer = Trainer(corpus)
    choices = {f"culled {n}": culled(corpus.losses(), corpus.hardness, n, FACTOR) for n in counts}
    choices |= {f"round's {n}": as_a_round(corpus, n) for n in counts}
    choices["everything"] = list(range(len(corpus)))
    rows = [{"students": "no training", "kept": 0, "steps": 0} | merged([trainer.score(None, corpus.scale).flat()])]
    for steps in STEPS:
        for name, frames in choices.items():
            trained = [trainer.train(frames, seed, steps=steps) for seed in seeds]
            scores = [trainer.score(student, corpus.scale).flat() for student in trained]
            rows.append({"students": name, "kept": len(frames), "steps": steps} | merged(scores))
    return Results(rows, [_table(rows, len(seeds))], (lambda axes: _plot(axes, rows),))


def _table(rows: Sequence[Row], seeds: int) -> ResultTable:
    everything = {row["steps"]: row["teacher_ap50"] for row in rows if row["students"] == "everything"}
    lines = []
    for row in rows:
        rival = everything.get(row["steps"])
        gain = None if rival is None else row["teacher_ap50"] - rival
        lines.append(
            {
                "students": row["students"],
                "steps": str(row["steps"]),
                "frames": str(row["kept"]),
                "AP50, teacher": with_spread(row, "teacher_ap50"),
                "AP50:95": with_spread(row, "teacher_ap50_95"),
                "AP50, labels": with_spread(row, "labels_ap50"),
                "AP50:95, labels": with_spread(row, "labels_ap50_95"),
                "over everything": text(gain, "+.3f"),
            }
        )
    note = "over everything: AP50 by the teacher, mean of seeds, at the same number of steps"
    return ResultTable(
        f"Culled frames and all frames at equal updates, mean (least..most) of {seeds} seeds", lines, note
    )


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    for name in dict.fromkeys(row["students"] for row in rows[1:]):
        own = [row for row in rows if row["students"] == name and row["teacher_ap50"] is not None]
        axes.plot([row["steps"] for row in own], [row["teacher_ap50"] for row in own], marker="o", label=name)
    axes.set(title="Students at equal updates, against the teacher", xlabel="steps", ylabel="AP50")
