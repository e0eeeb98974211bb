"""Is a class lost that the training frames lack? Students of frames without it, measured on frames that have it.

For each class that is measured by enough objects, n frames are drawn in which the teacher sees none, not even a
doubtful one. Students are trained on them twice: with everything unlabelled as background, and with the class spared
(`losses.py`), as a round does whose judges show it. Before training the base student says what there is to lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.training import Scores, Trainer
from culling.common.errors import InputError

LEAST = 20
"""The AP of fewer objects is chance."""

WAYS = ("background", "spared")


def unseen(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each class, n and way to train, and one before training; the seeds draw frames and train.

    Raises InputError where no class has enough objects to be measured by and n frames without it.
    """
    trainer, rows = Trainer(corpus), []
    base = trainer.score(None, corpus.scale)
    for name, label in _measured(base, corpus.graph.info.classes).items():
        lacking = _lacking(corpus, label)
        for n in counts:
            if len(lacking) < n:
                continue
            rows.append({"class": name, "n": n, "trained": "not"} | merged([_flat(base, name)]))
            for way in WAYS:
                spared = (label,) if way == "spared" else ()
                drawn = [sorted(_rng(seed, label).choice(lacking, n, replace=False).tolist()) for seed in seeds]
                students = [trainer.train(one, seed, spared=spared) for one, seed in zip(drawn, seeds, strict=True)]
                flats = [_flat(trainer.score(student, corpus.scale), name) for student in students]
                rows.append({"class": name, "n": n, "trained": way} | merged(flats))
    if not rows:
        raise InputError(
            f"{corpus.video}: no class has {LEAST} objects to measure by and {min(counts)} frames without any: "
            "lower --n, or raise --frames"
        )
    return Results(rows, [_table(rows, len(seeds))], (lambda axes: _plot(axes, rows),))


def _measured(base: Scores, classes: Sequence[str]) -> dict[str, int]:
    """Return the classes that label file or teacher have enough objects of, with their indices."""
    known = [truth.per_class for truth in (base.labels, base.teacher) if truth is not None]
    return {
        name: label
        for label, name in enumerate(classes)
        if any(name in per_class and per_class[name].objects >= LEAST for per_class in known)
    }


def _lacking(corpus: Corpus, label: int) -> list[int]:
    """Return the frames in which the teacher sees nothing of a class, not even a doubtful box."""
    found = corpus.labels(range(len(corpus)))
    floor = corpus.settings.teacher.min_score
    return [index for index, seen in enumerate(found) if label not in seen.found.above(floor).labels]


def _rng(seed: int, label: int) -> np.random.Generator:
    return np.random.default_rng((seed, label))


def _flat(scores: Scores, name: str) -> dict[str, float | None]:
    """Return the AP50 of a class, and the mean of all, against teacher and label file."""
    flat: dict[str, float | None] = {}
    for truth in ("teacher", "labels"):
        result = getattr(scores, truth)
        own = None if result is None else result.per_class.get(name)
        flat[f"{truth}_class"] = None if own is None else own.ap50
        flat[f"{truth}_mean"] = None if result is None else result.ap50
    return flat


def _table(rows: Sequence[Row], seeds: int) -> ResultTable:
    lines = [
        {
            "class": row["class"],
            "n": str(row["n"]),
            "trained": row["trained"],
            "AP50, teacher": with_spread(row, "teacher_class"),
            "AP50, labels": with_spread(row, "labels_class"),
            "all classes, teacher": with_spread(row, "teacher_mean"),
            "all classes, labels": with_spread(row, "labels_mean"),
        }
        for row in rows
    ]
    note = "trained: on n frames without that class, to which everything unlabelled is background, or which is spared"
    return ResultTable(f"Classes that the training frames lack, mean (least..most) of {seeds} seeds", lines, note)


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(f"{row['class']}\nn = {row['n']}" for row in rows))
    for way in ("not", *WAYS):
        values = [row["labels_class"] for row in rows if row["trained"] == way]
        if None not in values:
            axes.plot(names, values, marker="o", linestyle="", label=f"trained: {way}")
    axes.set(title="Classes that the training frames lack", ylabel="AP50 of the class, by the labels", ylim=(0, 1))
