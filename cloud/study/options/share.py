"""What does it cost to train a small share of the weights, and what does it save on the line?

Students are trained from the base one on n frames, evenly spaced, in equally many steps: once with all weights that
learn, and once for each share of them (`[round] trained_share`). Beside their precision stands what travels to an edge
that has the base student, as `common/wire/delta.py` makes it. Seconds are computed from the bytes, for a line of
1 Mbit/s that carries nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from culling.cloud.model.refit import refill
from culling.cloud.model.weights import load_weights
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.training import TrainedStudent, Trainer
from culling.common.errors import ModelError
from culling.common.wire.delta import make

SHARES = (1.0, 0.2, 0.05)
BITS_PER_S = 1_000_000


def share(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n and share, over the seeds, and one before training."""
    trainer, base = Trainer(corpus), corpus.files.read(corpus.artefact.sha256)
    rows: list[Row] = [{"n": 0, "share": 0.0} | merged([_flat(trainer, base, None)])]
    for n in counts:
        frames = [int(at) for at in np.linspace(0, len(corpus) - 1, n)]
        for part in SHARES:
            trained = [trainer.train(frames, seed, share=part) for seed in seeds]
            rows.append({"n": n, "share": part} | merged([_flat(trainer, base, one) for one in trained]))
    return Results(rows, [_table(rows, len(base), len(seeds))], (lambda axes: _plot(axes, rows),), {"whole": len(base)})


def _flat(trainer: Trainer, base: bytes, student: TrainedStudent | None) -> dict[str, float | None]:
    """Return the precision of a student, and of the delta that makes it of the base: bytes, and seconds to make it."""
    corpus = trainer.corpus
    flat = trainer.score(student, corpus.scale).flat()
    if student is None:
        return flat | {"bytes": None, "made_s": None}
    model, classes = load_weights(corpus.memo.folder / student.weights)
    if (graph := refill(base, model, classes)) is None:
        raise ModelError("a trained student does not fit the graph that it was trained from")
    started = time.perf_counter()
    changes = make(base, graph)
    return flat | {"bytes": float(len(changes)), "made_s": time.perf_counter() - started}


def _table(rows: Sequence[Row], whole: int, seeds: int) -> ResultTable:
    full = {row["n"]: row["teacher_ap50"] for row in rows if row["share"] == 1.0}
    lines = [
        {
            "trained": f"{row['share']:.0%}" if row["n"] else "nothing",
            "n": str(row["n"]),
            "AP50, teacher": with_spread(row, "teacher_ap50"),
            "AP50:95": with_spread(row, "teacher_ap50_95"),
            "AP50, labels": with_spread(row, "labels_ap50"),
            "to all": "-" if row["n"] == 0 else text(_less(row["teacher_ap50"], full[row["n"]]), "+.3f"),
            "bytes": "-" if row["bytes"] is None else f"{row['bytes']:,.0f}",
            "of the whole": "-" if row["bytes"] is None else f"{row['bytes'] / whole:.1%}",
            "s at 1 Mbit/s": "-" if row["bytes"] is None else f"{8 * row['bytes'] / BITS_PER_S:.0f}",
            "s to make": text(row["made_s"], ".1f"),
        }
        for row in rows
    ]
    note = f"the whole: {whole:,} bytes, {8 * whole / BITS_PER_S:.0f} s; to all: AP50 by the teacher, mean of seeds"
    return ResultTable(f"A share of the weights trained, mean (least..most) of {seeds} seeds", lines, note)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    trained = [row for row in rows if row["n"] and row["teacher_ap50"] is not None]
    for n in dict.fromkeys(row["n"] for row in trained):
        own = [row for row in trained if row["n"] == n]
        places = [row["bytes"] / 1e6 for row in own]
        axes.plot(places, [row["teacher_ap50"] for row in own], marker="o", label=f"n = {n}")
    axes.set(title="A share of the weights trained", xlabel="MB that travel", ylabel="AP50, by the teacher")
