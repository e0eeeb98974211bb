"""The named options of a round and of what surrounds it, beside each other: same frames, same seeds, one bill.

Every student is trained from the base one on n culled frames and in the same number of steps, unless a row says more:

plain       as a round trains it with every option off
one teacher by the labels of the bundled teacher alone, where those of an ensemble are the default (Data Distillation)
distilled   by the teacher's features as well, where teacher and student have what that takes (Chen et al.)
share       only a share of the weights moves, so that little travels to the edge (AMS)
int8        the plain one in 8 bits, and after half as many further steps in 8 bits (Apprentice)
cascade     the plain one, and the teacher in its place on the fifth of the frames where it is least sure (NoScope)

What is decided over time has studies of its own: `pace` (JITNet), `profile` (Chameleon) and `forgetting`; a stored
video is asked by `culling query`. Precision is by the label file: no row is measured by who taught it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Any

from culling.cloud.bill.count import student_cost
from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.model.family import family_named
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.escalation import Escalation, known
from culling.cloud.study.basis.forms import Form, graph_of, scores_of
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled
from culling.cloud.study.basis.training import TrainedStudent, Trainer
from culling.cloud.teacher.interface import tutor_of
from culling.common.wire.delta import make

BASE, PLAIN, ONE, DISTILLED, SHARE, POSTED, APPRENTICE, CASCADE, TEACHER = (
    "base student",
    "plain",
    "one teacher",
    "distilled",
    "5 % of the weights",
    "int8",
    "int8, trained in it",
    "cascade, 20 %",
    "teacher",
)

TRAINED_SHARE = 0.05
ESCALATED = 0.2
SINGLE = "bundled"
MEASURES = ("ap50", "ap50_95")


@dataclass(frozen=True)
class Tried:
    """One recipe on n frames: its precision by labels for each seed, and its bill.

    `labelled` counts the teacher's passes that a round needs, `trained` GFLOPs of training, `look` those of a frame at
    the edge with what the teacher has of it; `sent` is the bytes that travel to an edge with the base student of the
    same form, of `whole` bytes.
    """

    name: str
    n: int
    by_labels: Sequence[EvaluationResult]
    labelled: int = 0
    steps: int = 0
    trained: float = 0.0
    look: float = math.nan
    sent: float | None = None
    whole: int = 0


def recipes(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for the base student, the teacher, and each recipe and n. Raises InputError without true labels."""
    kitchen = _Kitchen(corpus, seeds)
    tried = [kitchen.base(), kitchen.teacher()]
    for n in counts:
        tried += kitchen.all(n)
    rows = [_row(one) for one in tried]
    wanted = [line for n in counts for line in _wanted({one.name: one for one in tried if one.n in (0, n)}, n)]
    tables = [_table(rows, len(seeds)), ResultTable("Against what was wanted, means of seeds", wanted)]
    return Results(rows, tables, (lambda axes: _plot(axes, rows),), {"wanted": wanted})


class _Kitchen:
    """Trains and measures every recipe on one corpus."""

    def __init__(self, corpus: Corpus, seeds: Sequence[int]) -> None:
        self._corpus, self._seeds = corpus, seeds
        self._trainer = Trainer(corpus)
        self._escalation = Escalation(corpus)
        self._cost = student_cost(self._trainer.start(), corpus.settings.round.frozen)
        self._look = self._cost.look.gflops(corpus.size(corpus.scale))

    def base(self) -> Tried:
        return Tried(BASE, 0, [self._by_labels(None)], look=self._look)

    def teacher(self) -> Tried:
        return Tried(TEACHER, 0, [known(self._trainer.score_teacher().labels)], look=self._teacher_look)

    def all(self, n: int) -> list[Tried]:
        corpus, trainer, seeds = self._corpus, self._trainer, self._seeds
        chosen = culled(corpus.losses(), corpus.hardness, n, FACTOR)
        plain = [trainer.train(chosen, seed) for seed in seeds]
        small = [trainer.train(chosen, seed, share=TRAINED_SHARE) for seed in seeds]
        apprentices = [trainer.apprentice(tutor, chosen, seed) for tutor, seed in zip(plain, seeds, strict=True)]
        return [
            self._tried(PLAIN, n, plain, chosen),
            *self._by_one_teacher(n),
            *self._distilled(n, chosen),
            self._tried(SHARE, n, small, chosen),
            self._tried(POSTED, n, plain, chosen, "int8"),
            self._tried(APPRENTICE, n, apprentices, chosen, "int8", plain[0].steps),
            self._cascade(n, plain, chosen),
        ]

    def _by_one_teacher(self, n: int) -> list[Tried]:
        if self._corpus.settings.teacher.kind == SINGLE:
            return []
        alone = self._corpus.taught(SINGLE)
        chosen = culled(alone.losses(), alone.hardness, n, FACTOR)
        trainer = Trainer(alone)
        return [self._tried(ONE, n, [trainer.train(chosen, seed) for seed in self._seeds], chosen)]

    def _distilled(self, n: int, chosen: Sequence[int]) -> list[Tried]:
        corpus, trainer = self._corpus, self._trainer
        if family_named(corpus.settings.student.family).passing is None or tutor_of(corpus.teacher) is None:
            return []
        return [self._tried(DISTILLED, n, [trainer.train(chosen, seed, distil=True) for seed in self._seeds], chosen)]

    def _tried(
        self,
        name: str,
        n: int,
        students: Sequence[TrainedStudent],
        chosen: Sequence[int],
        form: Form = "fp32",
        before: int = 0,
    ) -> Tried:
        """Return how good students are in a form; `before` are steps that their tutors took."""
        corpus = self._corpus
        graphs = [graph_of(corpus, student, form, chosen) for student in students]
        scored = [known(scores_of(corpus, graph).labels) for graph in graphs]
        origin = graph_of(corpus, None, form, chosen).read_bytes()
        sent = mean(len(make(origin, graph.read_bytes())) for graph in graphs)
        steps, sizes = before + students[0].steps, students[0].sizes
        learn = mean(self._cost.learn.gflops(size) for size in sizes)
        gflops = steps * corpus.settings.round.batch * learn
        return Tried(name, n, scored, FACTOR * n, steps, gflops, self._look, sent, len(origin))

    def _cascade(self, n: int, students: Sequence[TrainedStudent], chosen: Sequence[int]) -> Tried:
        plain = self._tried(CASCADE, n, students, chosen)
        asked = []
        for student in students:
            own = self._escalation.own(self._corpus.memo.folder / student.weights)
            asked.append(self._escalation.score(own, self._escalation.unsure(own), ESCALATED))
        look = self._look + ESCALATED * self._teacher_look
        return Tried(CASCADE, n, asked, plain.labelled, plain.steps, plain.trained, look, plain.sent, plain.whole)

    def _by_labels(self, student: TrainedStudent | None) -> EvaluationResult:
        return known(self._trainer.score(student, self._corpus.scale).labels)

    @cached_property
    def _teacher_look(self) -> float:
        counted = self._corpus.teacher.gflops(self._corpus.height, self._corpus.width)
        return math.nan if counted is None else counted


def _row(one: Tried) -> dict[str, Any]:
    told = {"recipe": one.name, "n": one.n, "labelled": one.labelled, "steps": one.steps}
    told |= {"training_gflops": one.trained, "look_gflops": one.look, "bytes": one.sent, "whole": one.whole}
    return told | merged([{measure: getattr(found, measure) for measure in MEASURES} for found in one.by_labels])


def _wanted(by: Mapping[str, Tried], n: int) -> list[dict[str, str]]:
    """Return what the options should bring on n frames, each against itself being off, and what they bring."""
    plain, teacher, cascade = by[PLAIN], by[TEACHER], by[CASCADE]
    led = _mean(teacher, "ap50") - _mean(plain, "ap50")
    gained = (_mean(cascade, "ap50") - _mean(plain, "ap50")) / led if led > 0 else math.nan
    least = {form: _worst(by[form], plain) for form in (POSTED, APPRENTICE)}
    small = by[SHARE]
    assert small.sent is not None
    lines = [
        ("one teacher to two", "-", f"{_less(plain, by[ONE]):+.3f} AP50") if ONE in by else None,
        (DISTILLED, "AP50:95 >= +.020", f"{_less(by[DISTILLED], plain, 'ap50_95'):+.3f}") if DISTILLED in by else None,
        (SHARE, "bytes <= 5 % of the whole", f"{small.sent / small.whole:.1%}"),
        (SHARE, "AP50 >= -.010", f"{_less(small, plain):+.3f}"),
        (POSTED, "every class >= -.005 AP50", f"{least[POSTED]:+.3f} in the worst"),
        (APPRENTICE, "every class >= -.005 AP50", f"{least[APPRENTICE]:+.3f} in the worst"),
        (CASCADE, ">= half of the teacher's gain", "the teacher leads by nothing" if led <= 0 else f"{gained:.2f}"),
        (CASCADE, "<= a third of its cost", f"{cascade.look / teacher.look:.2f}"),
    ]
    return [{"recipe": line[0], "n": str(n), "wanted": line[1], "seen": line[2]} for line in lines if line]


def _mean(one: Tried, measure: str) -> float:
    return mean(float(getattr(found, measure)) for found in one.by_labels)


def _less(one: Tried, other: Tried, measure: str = "ap50") -> float:
    return _mean(one, measure) - _mean(other, measure)


def _worst(one: Tried, other: Tried) -> float:
    """Return what `one` has less than `other` in the class where that is most."""

    def of(tried: Tried, name: str) -> float:
        return mean(found.per_class[name].ap50 for found in tried.by_labels)

    return min(of(one, name) - of(other, name) for name in one.by_labels[0].per_class)


def _table(rows: Sequence[Row], seeds: int) -> ResultTable:
    lines = [
        {
            "recipe": row["recipe"],
            "n": str(row["n"]),
            "AP50": with_spread(row, "ap50"),
            "AP50:95": with_spread(row, "ap50_95"),
            "teacher passes": str(row["labelled"]),
            "steps": str(row["steps"]),
            "GFLOPs to train": f"{row['training_gflops']:,.0f}",
            "GFLOPs a frame": f"{row['look_gflops']:.1f}",
            "bytes down": "-" if row["bytes"] is None else f"{row['bytes']:,.0f}",
        }
        for row in rows
    ]
    note = "by the label file; bytes: what changed against the base student, as it travels"
    return ResultTable(f"Recipes, mean (least..most) of {seeds} seeds", lines, note)


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    axes.barh(places, [row["ap50"] for row in rows], color="#9db8d2", label="AP50")
    axes.barh(places, [row["ap50_95"] for row in rows], color="#3b6ea5", label="AP50:95")
    for place, row in zip(places, rows, strict=True):
        axes.plot([row["ap50_min"], row["ap50_max"]], [place, place], color="black", linewidth=1)
    names = [f"{row['recipe']}, n = {row['n']}" if row["n"] else row["recipe"] for row in rows]
    axes.set(title="Recipes, by the label file", xlabel="precision", yticks=places, yticklabels=names)
    axes.invert_yaxis()
