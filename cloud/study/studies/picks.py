"""Which of precision-only's picks does a first stage lose? The paper's second figure of table 2, without any training.

Precision-only asks the teacher about every frame and keeps the n worst. Confidence + precision asks it about `factor`
times n frames, those of the highest rank in a first stage that sees the student's output alone. What is worst is said
by each policy: the paper's 1 - AP, or the mass of mistakes. A learned first stage is fitted to one half of the training
part, in time, and judged on the other, both ways; every figure is the mean of the halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.round.rank import fit_ranker
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, with_spread
from culling.cloud.study.basis.strategy import FACTOR, missed, top
from culling.cloud.study.studies.selector import features

Values = NDArray[np.float64]


def picks(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n, policy and first stage; the random one has a draw for each seed."""
    everything = range(len(corpus))
    policies = {
        "1 - AP": np.array([one.value for one in corpus.hardness(everything)]),
        "mistakes": np.array([0.0 if one.easy else one.mass for one in corpus.mistakes(everything)]),
    }
    factor, rows = FACTOR, []
    for n in counts:
        for policy, worth in policies.items():
            for stage, ranks in first_stages(corpus, policies, seeds).items():
                lost = [{"missed": _lost(rank, worth, n, factor)} for rank in ranks]
                rows.append({"n": n, "policy": policy, "first stage": stage} | merged(lost))
    told = {"factor": factor, "half": len(corpus) // 2}
    told |= {f"teaching, {policy}": int((worth > 0).sum()) for policy, worth in policies.items()}
    return Results(rows, [_table(rows, factor, len(corpus))], (lambda axes: _plot(axes, rows),), told)


def first_stages(corpus: Corpus, policies: Mapping[str, Values], seeds: Sequence[int]) -> dict[str, list[Values]]:
    """Return the first stages by name: for each draw a value for every frame, `(N,)`, the highest being asked about."""
    known = features(corpus)
    return {
        "confidence": [corpus.losses()],
        **{f"learned, {policy}": [_learned(known, worth)] for policy, worth in policies.items()},
        "random": [np.random.default_rng(seed).random(len(corpus)) for seed in seeds],
    }


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames of the first and of the second half."""
    frames = np.arange(count)
    return frames[: count // 2], frames[count // 2 :]


def _learned(known: Values, worth: Values) -> Values:
    """Return what rankers predict that were each fitted to the other half."""
    first, second = halves(len(worth))
    predicted = np.empty(len(worth))
    for told, asked in ((first, second), (second, first)):
        predicted[asked] = fit_ranker(known[told], worth[told]).predict(known[asked])
    return predicted


def _lost(rank: Values, worth: Values, count: int, factor: int) -> float:
    """Return the share of the `count` frames of most worth that the first stage leaves out, mean of the halves."""
    return mean(_lost_in(rank[half], worth[half], count, factor) for half in halves(len(worth)))


def _lost_in(rank: Values, worth: Values, count: int, factor: int) -> float:
    asked = np.array(top(rank, factor * count), int)
    return missed(worth[asked], np.delete(worth, asked), count)


def _table(rows: Sequence[Row], factor: int, frames: int) -> ResultTable:
    shown = [
        {
            "policy": str(row["policy"]),
            "n": str(row["n"]),
            "first stage": str(row["first stage"]),
            "asked": f"{min(1.0, 2 * factor * int(row['n']) / frames):.0%}",
            "missed": with_spread(row, "missed"),
        }
        for row in rows
    ]
    note = f"missed: share of the n frames that teach most which are not among {factor} n asked about; mean of halves"
    return ResultTable(f"What a first stage loses of precision-only's picks, {frames} frames", shown, note)


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    for policy in dict.fromkeys(row["policy"] for row in rows):
        for stage in dict.fromkeys(row["first stage"] for row in rows):
            own = [row for row in rows if (row["policy"], row["first stage"]) == (policy, stage)]
            style = "-" if policy == "mistakes" else "--"
            axes.plot([row["n"] for row in own], [row["missed"] for row in own], style, label=f"{policy}: {stage}")
    axes.set(title="What a first stage loses", xlabel="n", ylabel="share of precision-only's picks missed")
