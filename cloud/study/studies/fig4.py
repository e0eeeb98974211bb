"""Figure 4 of the paper on one clip: precision, change of the confidence loss, and milliseconds, against the scale.

The change is the base student's on the culled set, and the choice is by it, the paper's way; precision is that of the
student trained on that set at full size, and of the base student, measured on the part held back; milliseconds are
onnxruntime's on this machine. The loss by the chosen scale is that of a student trained for this scale, which is what a
round would ship.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, culled
from culling.cloud.study.basis.training import Trainer
from culling.common.graph import see

TIMED = 20
"""Frames that the student is timed on, at most: enough for a steady median of every size."""


def milliseconds(
    corpus: Corpus, sizes: Sequence[tuple[int, int]], frames: Sequence[int]
) -> dict[tuple[int, int], float]:
    """Return the student's median time at each input size, resizing included.

    Sizes take turns on every frame, so that other work on the machine slows all of them alike.
    """
    spent: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    for size in sizes:
        corpus.graph.warm(1, *size)
    for frame in map(corpus.picture, frames):
        for size, seconds in spent.items():
            started = time.perf_counter()
            see(corpus.graph, frame, size)
            seconds.append(time.perf_counter() - started)
    return {size: 1000 * median(seconds) for size, seconds in spent.items()}


def fig4(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and scale; the one that optResolution chooses is marked."""
    trainer, rows = Trainer(corpus), []
    for n in counts:
        frames = culled(corpus.losses(), corpus.hardness, n, FACTOR)
        chosen = trainer.search(frames).chosen
        trained = [trainer.train(frames, seed) for seed in seeds]
        shipped = [trainer.train(frames, seed, chosen) for seed in seeds]
        steps = trainer.search(frames, threshold=math.inf).steps
        times = milliseconds(corpus, [step.size for step in steps], frames[:TIMED])
        for step in steps:
            flats = [trainer.score(student, step.scale).flat() for student in trained]
            at_choice = [trainer.score(student, chosen).flat() for student in shipped] if step.scale == chosen else None
            rows.append(
                {"n": n, "k": step.k, "scale": step.scale, "size": f"{step.size[1]}x{step.size[0]}"}
                | {
                    "mse": step.mse,
                    "normalised": step.normalised,
                    "ms": times[step.size],
                    "chosen": step.scale == chosen,
                }
                | merged(flats)
                | merged([trainer.score(None, step.scale).flat()], "base_")
                | merged(at_choice or [dict.fromkeys(flats[0])], "shipped_")
            )
    threshold = corpus.settings.resolution.threshold
    panels = (
        lambda axes: _plot_precision(axes, rows),
        lambda axes: _plot_change(axes, rows, threshold),
        lambda axes: _plot_time(axes, rows),
    )
    return Results(rows, [_table(rows, threshold), _cost(rows)], panels, {"threshold": threshold})


def _table(rows: Sequence[Row], threshold: float) -> ResultTable:
    return ResultTable(
        "Figure 4: scales of optResolution",
        [
            {
                "scale": text(row["scale"]) + (" *" if row["chosen"] else ""),
                "n": str(row["n"]),
                "input": row["size"],
                "MSE": text(row["mse"], ".2f"),
                "normalised": text(row["normalised"]),
                "ms": text(row["ms"], ".1f"),
                "AP50, teacher": with_spread(row, "teacher_ap50"),
                "AP50:95": with_spread(row, "teacher_ap50_95"),
                "AP50, labels": with_spread(row, "labels_ap50"),
                "base AP50, teacher": text(row["base_teacher_ap50"]),
            }
            for row in rows
        ],
        f"*: chosen, the last before the normalised change passes {threshold:g}; ms: median of a frame, with resizing",
    )


def _cost(rows: Sequence[Row]) -> ResultTable:
    lines = []
    for n in dict.fromkeys(row["n"] for row in rows):
        own = [row for row in rows if row["n"] == n]
        (chosen,) = (row for row in own if row["chosen"])
        line = {"n": str(n), "scale": text(chosen["scale"]), "time": text(chosen["ms"] / own[0]["ms"], ".2f")}
        for truth in ("teacher", "labels"):
            line[f"AP50, {truth}"] = with_spread(chosen, f"shipped_{truth}_ap50")
            line[f"AP50, {truth}, full size"] = with_spread(own[0], f"{truth}_ap50")
        lines.append(line)
    note = "time: of a frame, against full size; each student was trained for the size that it is measured at"
    return ResultTable("What the chosen scale costs", lines, note)


def _lines(axes: Any, rows: Sequence[Row], key: str, label: str) -> None:
    """Draw one line for each n, with a star at the chosen scale."""
    for n in dict.fromkeys(row["n"] for row in rows):
        own = [row for row in rows if row["n"] == n and row[key] is not None]
        (line,) = axes.plot(
            [row["scale"] for row in own], [row[key] for row in own], marker=".", label=f"{label}n = {n}"
        )
        for row in own:
            if row["chosen"]:
                axes.plot(row["scale"], row[key], marker="*", markersize=14, color=line.get_color())
    axes.set(xlabel="scale")


def _plot_precision(axes: Any, rows: Sequence[Row]) -> None:
    _lines(axes, rows, "teacher_ap50", "trained, ")
    _lines(axes, rows, "base_teacher_ap50", "base, ")
    axes.set(title="Precision against the teacher (star: chosen)", ylabel="AP50", ylim=(0, 1))


def _plot_change(axes: Any, rows: Sequence[Row], threshold: float) -> None:
    _lines(axes, rows, "normalised", "")
    axes.axhline(threshold, color="grey", linestyle=":")
    axes.set(title="Change of the confidence loss", ylabel="MSE / mean square of the loss")


def _plot_time(axes: Any, rows: Sequence[Row]) -> None:
    _lines(axes, rows, "ms", "")
    axes.set(title="Student, one frame", ylabel="ms", ylim=(0, None))
