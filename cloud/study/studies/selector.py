"""Which ranking of frames finds those that the teacher would correct: share of the gain against share forwarded.

The gain of forwarding a frame is what the teacher corrects there: its answer in place of the student's raises the
frame's average precision to 1 (the reward of ORIC, SEC 2024, by frame). Rankings see only the student's detections; one
that learns may use the first half of the training part, so all are measured on the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.round.rank import fit_ranker
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, text
from culling.common.errors import InputError
from culling.common.selection.confidence import POLICIES
from culling.common.selection.features import FeatureMeter

SHARES = (0.01, 0.02, 0.05, 0.2)
PLOTTED = np.linspace(0.0, 0.5, 51)

Values = NDArray[np.float64]


def rankings(corpus: Corpus, hardness: Values) -> dict[str, Values]:
    """Return every ranking by name, a value for each frame, `(N,)`: the highest are forwarded first, ties in any order.

    `hardness` `(N,)` comes from the teacher; all but the oracle may use only its first half.
    """
    return {
        **{policy: corpus.losses(policy) for policy in POLICIES},
        "learned": _learned(corpus, hardness),
        "random": np.zeros(len(corpus)),
        "interval": spread_out(len(corpus)),
        "oracle": hardness,
    }


def features(corpus: Corpus) -> Values:
    """Return what a ranker reads from every frame, `(N, F)`; some features are changes since the previous frame."""
    losses, scores, meter = corpus.losses(), corpus.meter("paper"), FeatureMeter()
    return np.array(
        [
            meter.features(scores.relevant(seen.found), float(loss), corpus.width, corpus.height)
            for seen, loss in zip(corpus.seen, losses, strict=True)
        ]
    )


def _learned(corpus: Corpus, hardness: Values) -> Values:
    """Return what a ranker fitted to the first half predicts."""
    known, half = features(corpus), len(corpus) // 2
    return fit_ranker(known[:half], hardness[:half]).predict(known)


def spread_out(count: int) -> Values:
    """Return values whose first k frames are spaced nearly evenly for every k: van der Corput's sequence."""
    bits = max(1, (count - 1).bit_length())
    return np.array([-float(int(f"{index:0{bits}b}"[::-1], 2)) for index in range(count)])


def gained(values: Values, gains: Values, count: int) -> float:
    """Return the share of the total gain in the `count` frames of the highest values; ties count by their mean."""
    total = float(gains.sum())
    border = np.sort(values)[::-1][count - 1] if count else np.inf
    above, tied = values > border, values == border
    expected = float(gains[above].sum())
    if count:
        expected += float(gains[tied].mean()) * (count - int(above.sum()))
    return expected / total


def selector(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each ranking with its share of the gain at `SHARES`, independent of `counts` and `seeds`.

    Raises InputError when the student makes no mistake that a ranking could find.
    """
    everything = range(len(corpus))
    hardness = np.array([one.value for one in corpus.hardness(everything)])
    half = len(corpus) // 2
    gains = hardness[half:]
    if not gains.sum() > 0:
        raise InputError(
            f"{corpus.video}: the student is right on all of {len(gains)} frames; there is nothing to gain"
        )
    forwarded = [max(1, round(share * len(gains))) for share in SHARES]
    found = {name: values[half:] for name, values in rankings(corpus, hardness).items()}
    rows = [
        {"ranking": name}
        | {_key(share): gained(values, gains, count) for share, count in zip(SHARES, forwarded, strict=True)}
        for name, values in found.items()
    ]
    facts = {"frames": len(gains), "forwarded": forwarded, "mean_gain": float(gains.mean())}
    return Results(rows, [_table(rows, forwarded, len(gains))], (lambda axes: _plot(axes, found, gains),), facts)


def _key(share: float) -> str:
    return f"gain_at_{share:g}"


def _table(rows: Sequence[Row], counts: Sequence[int], frames: int) -> ResultTable:
    headings = [f"{share:.0%} ({count})" for share, count in zip(SHARES, counts, strict=True)]
    return ResultTable(
        f"Share of the teacher's gain by share of frames forwarded, {frames} frames",
        [
            {"ranking": row["ranking"]}
            | {heading: text(row[_key(share)]) for heading, share in zip(headings, SHARES, strict=True)}
            for row in rows
        ],
        "in brackets: frames forwarded; oracle: sorted by what the teacher says, the most that can be gained",
    )


def _plot(axes: Any, found: Mapping[str, Values], gains: Values) -> None:
    for name, values in found.items():
        curve = [gained(values, gains, round(share * len(gains))) for share in PLOTTED]
        style = {"oracle": "--", "random": ":", "interval": ":"}.get(name, "-")
        axes.plot(100 * PLOTTED, curve, style, label=name)
    axes.set(title="What a ranking finds", xlabel="% of frames forwarded", ylabel="share of the teacher's gain")
