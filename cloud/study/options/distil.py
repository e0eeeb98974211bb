"""What does it bring to distil a student from its teacher, beside training it on the teacher's labels?

Students are trained from the base one on n frames, evenly spaced, in equally many steps on the same batches: once on
labels alone, and once with the losses of `[round] distil`. The label file is from outside: by it the second are better
or they are not, whatever the teacher thinks. The first row is the teacher's own: what a student already knows as well,
it cannot learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from culling.cloud.sheet import Row
from culling.cloud.study.basis.by_class import by_class
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.training import MEASURED, Scores, Trainer

WAYS = {"labels": False, "labels and teacher": True}


@dataclass(frozen=True)
class Entry:
    """One way to train on n frames: mean seconds a step, and the scores of the students, one for each seed."""

    way: str
    n: int
    step_s: float | None
    scores: Sequence[Scores]

    @property
    def row(self) -> dict[str, Any]:
        """Its figures, over the seeds."""
        return {"n": self.n, "way": self.way, "step_s": self.step_s} | merged([one.flat() for one in self.scores])


def distil(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and way to train, over the seeds, one before training, and one for the teacher."""
    trainer, size = Trainer(corpus), 0.0
    entries = [
        Entry("the teacher itself", 0, None, [trainer.score_teacher()]),
        Entry("not", 0, None, [trainer.score(None, corpus.scale)]),
    ]
    for n in counts:
        frames = [int(at) for at in np.linspace(0, len(corpus) - 1, n)]
        for way, distils in WAYS.items():
            trained = [trainer.train(frames, seed, distil=distils) for seed in seeds]
            scores = [trainer.score(one, corpus.scale) for one in trained]
            entries.append(Entry(way, n, mean(one.step_s for one in trained), scores))
        size = mean(len(one) for one in corpus.features(frames))
    rows = [one.row for one in entries]
    return Results(
        rows,
        [
            _table(rows, size, len(seeds)),
            by_class([({"trained on": one.way, "n": str(one.n)}, one.scores) for one in entries]),
        ],
        (lambda axes: _plot(axes, rows),),
        {"bytes_a_frame": size},
    )


def _table(rows: Sequence[Row], size: float, seeds: int) -> ResultTable:
    plain = {row["n"]: row["labels_ap50_95"] for row in rows if row["way"] == "labels"}
    lines = [
        {"trained on": row["way"], "n": str(row["n"])}
        | {title: with_spread(row, name) for title, name in MEASURED.items()}
        | {"gained": _gained(row, plain), "s a step": text(row["step_s"], ".2f")}
        for row in rows
    ]
    note = f"gained: AP50:95 by the label file, mean of seeds, to labels alone; features: {size:,.0f} bytes a frame"
    return ResultTable(f"A student distilled from its teacher, mean (least..most) of {seeds} seeds", lines, note)


def _gained(row: Row, plain: dict[Any, float | None]) -> str:
    before = plain.get(row["n"])  # none of the rows that trained nothing
    if before is None or row["labels_ap50_95"] is None or row["way"] == "labels":
        return "-"
    return text(row["labels_ap50_95"] - before, "+.3f")


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    for way in WAYS:
        own = [row for row in rows if row["way"] == way and row["labels_ap50_95"] is not None]
        axes.plot([row["n"] for row in own], [row["labels_ap50_95"] for row in own], marker="o", label=way)
    axes.set(title="A student distilled from its teacher", xlabel="frames", ylabel="AP50:95, by the label file")
