"""optResolution on one clip, both policies: which scale each chooses, what that costs in precision, and what it saves.

Scales are chosen on n frames to learn from by the base student, as in a round, and measured on the part held back: by
the teacher, and by the label file. The base student is measured as it is, and, where a smaller scale was chosen, so is
what a round would ship: a student trained on those frames for the scale, beside one trained on them at full size.

`labels` is shown on two choices of n frames: the hardest, and n at even distances. The hardest are those that the
student got most wrong at full size, and at any other size it gets some of them right by chance.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import mean
from typing import Any

import msgspec

from culling.cloud.evaluation.matching import compare
from culling.cloud.evaluation.tally import tallies
from culling.cloud.round.scale import BLOCK_S, Picture, ScaleTrial, scales, search, search_by_loss
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, text
from culling.cloud.study.basis.strategy import FACTOR, culled, evenly
from culling.cloud.study.basis.training import MEASURED, Trainer
from culling.cloud.study.studies.fig4 import TIMED, milliseconds
from culling.common.graph import see


class Choice(msgspec.Struct, frozen=True):
    """A scale and its input `(height, width)`, in words why it was chosen, and what that cost.

    `passes` are the student's, each as many as its pixels are of one at full size.
    """

    scale: float
    size: tuple[int, int]
    why: str
    passes: float
    seconds: float


def resolution(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for full size, and for each n and way to choose a scale; students are trained with each seed."""
    trainer = Trainer(corpus)
    whole = Choice(corpus.scale, corpus.size(corpus.scale), "", 0.0, 0.0)
    rows = [_row(trainer, "full size", 0, whole) | _shipped(trainer, (), corpus.scale, seeds)]
    for n in counts:
        hard = culled(corpus.losses(), corpus.hardness, n, FACTOR)
        even = evenly(len(corpus), n)
        for name, policy, frames in (
            ("loss, hardest", "loss", hard),
            ("labels, hardest", "labels", hard),
            ("labels, even", "labels", even),
        ):
            choice = _remembered(corpus, policy, frames)
            rows.append(_row(trainer, name, n, choice) | _shipped(trainer, frames, choice.scale, seeds))
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    spent = milliseconds(corpus, sizes, evenly(len(corpus), TIMED))
    rows = [row | {"ms": spent[row["size"]], "size": "{1}x{0}".format(*row["size"])} for row in rows]
    return Results(rows, [_table(rows), _trained(rows), _reasons(rows)], (lambda axes: _plot(axes, rows),))


def _remembered(corpus: Corpus, policy: str, frames: Sequence[int]) -> Choice:
    settings, teacher = corpus.settings.resolution, corpus.settings.teacher
    decided = corpus.identity | settings.model_dump() | {"choose": policy}
    decided |= {"frames": list(frames), "true": teacher.true_score, "doubtful": teacher.min_score}
    return corpus.memo.once("choice", decided, Choice, partial(_choose, corpus, policy, frames))


def _choose(corpus: Corpus, policy: str, frames: Sequence[int]) -> Choice:
    """Return the scale that a round would choose on those frames: by the loss, as the paper does, or by labels."""
    settings, trial, inputs = corpus.settings.resolution, _trial(corpus, frames), _inputs(corpus)
    started = time.perf_counter()
    if policy == "loss":
        found = search_by_loss(trial, inputs, settings.threshold)
    else:
        found = search(trial, inputs, settings.threshold, settings.tolerance)
    seconds = time.perf_counter() - started
    return Choice(corpus.scale * found.chosen.scale, found.chosen.size, found.why, found.passes, seconds)


def _inputs(corpus: Corpus) -> dict[int, tuple[float, tuple[int, int]]]:
    settings = corpus.settings.resolution
    return scales(lambda scale: corpus.size(corpus.scale * scale), settings.max_steps, settings.min_scale)


def _trial(corpus: Corpus, frames: Sequence[int]) -> ScaleTrial:
    teacher, classes = corpus.settings.teacher, corpus.graph.info.classes
    interest = corpus.interest
    truth = [seen.found for seen in corpus.labels(frames)]

    def pictures(chosen: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        return ((at, corpus.picture(frames[at])) for at in chosen)

    return ScaleTrial(
        blocks=[int(corpus.shots[index].at // BLOCK_S) for index in frames],
        pictures=pictures,
        find=partial(see, corpus.graph),
        loss=corpus.meter(corpus.settings.resolution.policy).loss,
        tally=lambda at, found: tallies(compare(found, truth[at], teacher.true_score, teacher.min_score), len(classes)),
        labels={at: name for at, name in enumerate(classes) if interest is None or at in interest},
    )


def _row(trainer: Trainer, name: str, n: int, choice: Choice) -> dict[str, Any]:
    scores = trainer.score(None, choice.scale).flat()
    return {"policy": name, "n": n, **msgspec.structs.asdict(choice)} | scores


def _shipped(trainer: Trainer, frames: Sequence[int], scale: float, seeds: Sequence[int]) -> dict[str, Any]:
    """Return how good students are that are trained for that scale, `shipped_`, and for full size, `whole_`: means of
    the seeds. None where the scale is full size: nothing can be lost.
    """
    full, told = trainer.corpus.scale, dict[str, Any]()
    for name, at in (("shipped", scale), ("whole", full)):
        scores = [trainer.score(trainer.train(frames, seed, at), at).flat() for seed in seeds if scale < full]
        for key in MEASURED.values():
            values = [value for score in scores if (value := score[key]) is not None]
            told[f"{name}_{key}"] = mean(values) if values else None
    return told


def _table(rows: Sequence[Row]) -> ResultTable:
    lines = [
        {
            "scale by": row["policy"],
            "n": str(row["n"] or "-"),
            "scale": text(row["scale"], ".2f"),
            "input": row["size"],
            "time": text(row["ms"] / rows[0]["ms"], ".2f"),
            **{title: _against(row[key], rows[0][key]) for title, key in MEASURED.items()},
            "passes": text(row["passes"], ".0f"),
            "s": text(row["seconds"], ".0f"),
        }
        for row in rows
    ]
    note = (
        "change from full size in brackets; time: of a frame; passes, s: what the choice cost, in passes at full size"
    )
    return ResultTable("optResolution: base student, not trained for the scale, on the part held back", lines, note)


def _trained(rows: Sequence[Row]) -> ResultTable:
    lines = [
        {"scale by": f"{row['policy']}, n = {row['n']}", "scale": text(row["scale"], ".2f")}
        | {title: _against(row[f"shipped_{key}"], row[f"whole_{key}"]) for title, key in MEASURED.items()}
        for row in rows
        if row["scale"] < rows[0]["scale"]
    ]
    note = "change from a student trained at full size in brackets; a choice that is full size is left out"
    return ResultTable("optResolution: students trained for the scale, on the part held back", lines, note)


def _reasons(rows: Sequence[Row]) -> ResultTable:
    lines = [{"scale by": f"{row['policy']}, n = {row['n']}", "why": row["why"]} for row in rows[1:]]
    return ResultTable("Why", lines)


def _against(value: float | None, full: float | None) -> str:
    return "-" if value is None or full is None else f"{value:.3f} ({value - full:+.3f})"


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["policy"] if not row["n"] else f"{row['policy']}\nn = {row['n']}" for row in rows]
    for key, label in (("teacher_ap50", "against the teacher"), ("labels_ap50", "against the labels")):
        if all(row[key] is not None for row in rows):
            axes.plot(names, [row[key] for row in rows], marker="o", linestyle="", label=label)
    axes.bar(names, [row["ms"] / rows[0]["ms"] for row in rows], alpha=0.2, label="time of a frame, of full size")
    axes.tick_params(axis="x", labelsize=8, rotation=20)
    axes.set(title="optResolution, by policy", ylabel="AP50", ylim=(0, None))
