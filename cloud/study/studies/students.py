"""The families of students beside each other on one clip: how good, how fast and how large, before and after training.

Each family's bundled student is trained as a round would train it: on the n frames that culling chooses by what that
student finds, for the same number of steps. All are measured as an edge would run them, as graphs: in floats and in 8
bits, whose ranges are taken from the frames that were trained on, and after more steps in 8 bits. Times are of one
thread, at the size at which the clip is shown to each student, so that they compare on any machine; graphs take turns,
so that other work slows all.

The first row is the teacher's, by the label file: where it is no better than a student before training, that student
has nothing to learn from it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from culling.cloud.sheet import Row
from culling.cloud.study.basis.by_class import by_class
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.forms import FORMS, graph_of, scores_of
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled, evenly
from culling.cloud.study.basis.training import Scores, TrainedStudent, Trainer
from culling.cloud.study.studies.fig4 import TIMED
from culling.cloud.weights.index import read_index
from culling.common.graph import open_graph, see

TRAINED = "int8, trained in it"
"""The form of a student whose training went on in 8 bits, see `recipe/apprentice.py`."""


@dataclass(frozen=True)
class Entry:
    """One row: a family's students, one for each seed, in one form, and how the first was trained; or the teacher."""

    name: str
    trained: str
    form: str
    graphs: Sequence[Path]
    scores: Sequence[Scores]
    training: TrainedStudent | None = None

    @property
    def told(self) -> dict[str, str]:
        """What the row is of."""
        return {"student": self.name, "trained": self.trained, "form": self.form}


def students(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for the teacher, and one for each family, before training and after it on n frames, and form."""
    own = corpus.settings.student.family
    entries = [Entry("teacher", "-", "-", [], [Trainer(corpus).score_teacher()])]
    for name in sorted({own} | _bundled()):
        entries += _family(corpus if name == own else corpus.beside(name), name, counts, seeds)
    spent = _milliseconds(corpus, {graph for entry in entries for graph in entry.graphs[:1]})
    rows = [_row(entry, spent) for entry in entries]
    return Results(
        rows,
        [_table(rows, len(seeds)), by_class([(one.told, one.scores) for one in entries])],
        (lambda axes: _plot(axes, rows),),
    )


def _bundled() -> set[str]:
    return {entry.family for entry in read_index().values() if entry.kind == "student"}


def _family(corpus: Corpus, name: str, counts: Sequence[int], seeds: Sequence[int]) -> list[Entry]:
    trainer = Trainer(corpus)
    chosen = {n: culled(corpus.losses(), corpus.hardness, n, FACTOR) for n in counts}
    trained = {n: [trainer.train(frames, seed) for seed in seeds] for n, frames in chosen.items()}
    known: list[tuple[str, list[int], str, Sequence[TrainedStudent | None]]]
    known = [("no", chosen[counts[0]], form, [None]) for form in FORMS]
    for n in counts:
        known += [(f"n = {n}", chosen[n], form, trained[n]) for form in FORMS]
        own = [trainer.apprentice(tutor, chosen[n], seed) for tutor, seed in zip(trained[n], seeds, strict=True)]
        known.append((f"n = {n}", chosen[n], TRAINED, own))
    entries = []
    for told, frames, form, each in known:
        graphs = [graph_of(corpus, student, FORMS[form != FORMS[0]], frames) for student in each]
        scores = [scores_of(corpus, graph) for graph in graphs]
        entries.append(Entry(name, told, form, graphs, scores, each[0]))
    return entries


def _milliseconds(corpus: Corpus, files: Collection[Path]) -> dict[Path, float]:
    """Return the median time of a frame, resizing included, of each graph on one thread."""
    size = corpus.size(corpus.scale)
    graphs = {file: open_graph(file.read_bytes(), provider="cpu", threads=1) for file in files}
    spent: dict[Path, list[float]] = {file: [] for file in files}
    for graph in graphs.values():
        graph.warm(1, *size)
    for picture in map(corpus.picture, evenly(len(corpus), TIMED)):
        for file, graph in graphs.items():
            started = time.perf_counter()
            see(graph, picture, size)
            spent[file].append(time.perf_counter() - started)
    return {file: 1000 * median(seconds) for file, seconds in spent.items()}


def _row(entry: Entry, spent: Mapping[Path, float]) -> dict[str, Any]:
    training, graph = entry.training, next(iter(entry.graphs), None)
    return {
        **entry.told,
        "ms": spent[graph] if graph else None,
        "bytes": graph.stat().st_size if graph else None,
        "steps": training.steps if training else 0,
        "step_s": training.step_s if training else None,
    } | merged([scores.flat() for scores in entry.scores])


def _table(rows: Sequence[Row], seeds: int) -> ResultTable:
    lines = [
        {
            "student": row["student"],
            "trained": row["trained"],
            "form": row["form"],
            "AP50, labels": with_spread(row, "labels_ap50"),
            "AP50:95, labels": with_spread(row, "labels_ap50_95"),
            "AP50, teacher": with_spread(row, "teacher_ap50"),
            "AP50:95, teacher": with_spread(row, "teacher_ap50_95"),
            "ms": text(row["ms"], ".1f"),
            "bytes": text(row["bytes"], ",d"),
            "s a step": text(row["step_s"], ".2f"),
        }
        for row in rows
    ]
    note = "ms: median of a frame on one thread, with resizing; bytes: of the graph, which is what is sent"
    return ResultTable(f"Families of students, mean (least..most) of {seeds} seeds", lines, note)


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    for form in (*FORMS, TRAINED):
        own = [row for row in rows if row["form"] == form and row["labels_ap50"] is not None]
        axes.plot([row["ms"] for row in own], [row["labels_ap50"] for row in own], "o", label=form)
        for row in own:
            axes.annotate(f"{row['student']}, {row['trained']}", (row["ms"], row["labels_ap50"]), fontsize=7)
    axes.set(
        title="Families of students, by the label file", xlabel="ms a frame, one thread", ylabel="AP50", xscale="log"
    )
