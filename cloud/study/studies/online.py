"""What the streaming selector forwards from a clip, against the best that could be forwarded from the same windows.

The edge's selector decides on the training part's frames one by one, at the times they were filmed. The offline choice
takes the highest losses of each window, as many as its budget allows. They differ because the selector does not know
the future (it matters less, the longer frames may wait: `eager_share`), and because it has other aims as well: distance
between frames, no duplicates, and audit frames, which show how many hard frames it misses.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, hardest, missed, top
from culling.cloud.study.basis.training import Trainer
from culling.common.errors import InputError, SettingsError
from culling.common.selection.selector import Action, Held, Released, SelectorSettings, build_selector, settle

WINDOWS = 4
"""Windows that a clip is cut into: the first has no past to go by, and the others show what the past is worth."""
EAGER_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
VARIANTS: dict[str, dict[str, float]] = {
    "defaults": {},
    "no spacing": {"spacing_s": 0.0, "duplicate_change": 0.0},
    "no spacing, no audit": {"spacing_s": 0.0, "duplicate_change": 0.0, "audit_share": 0.0},
}
MISSED_NOTE = (
    "missed: share of the n hardest frames, by the teacher's word on all, that was not forwarded for its loss; "
    "estimated: the same, from the audits alone (least..most of the draws). Spacing, likeness and audits take places "
    "that the offline choice gives to losses"
)
REPLAYS = 10
"""Draws of audit frames to average over: a short clip has only a handful in each."""


@dataclass
class Replay:
    """What became of a stream's frames: indices, with which probability each audit was drawn, seconds that the hard
    ones waited, and each frame's window.
    """

    hard: list[int] = field(default_factory=list)
    audits: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)


def replay(
    settings: SelectorSettings,
    losses: Sequence[float],
    times: Sequence[float],
    thumbnails: Sequence[NDArray[np.uint8]],
    rng: random.Random,
) -> Replay:
    """Return what the selector decides on a stream, `times` in seconds, that ends with its last frame."""
    selector, told, window = build_selector(settings, rng), Replay(), 0
    waiting: dict[int, Held] = {}

    def release(released: Released, now: float) -> None:
        places, settled = list(waiting), settle(released, list(waiting.values()))
        told.hard.extend(places[place] for place in settled.hard)
        told.delays.extend(now - times[places[place]] for place in settled.hard)
        told.audits.extend(places[place] for place in settled.audits)
        told.probabilities.extend([settled.probability] * len(settled.audits))
        waiting.clear()

    for index, (loss, at) in enumerate(zip(losses, times, strict=True)):
        if (released := selector.close_window(at)) is not None:
            release(released, at)
            window += 1
        told.windows.append(window)
        decision = selector.decide(loss, at, thumbnails[index] if loss > 0 else None)
        if decision.action is Action.HOLD and decision.draw is not None:
            waiting[index] = Held(loss, decision.reason, decision.draw.lot)
        elif decision.action is Action.FORWARD:
            told.hard.append(index)
            told.delays.append(0.0)
    if (released := selector.close_window(times[-1], final=True)) is not None:
        release(released, times[-1])
    return told


def best_of(losses: NDArray[np.float64], windows: Sequence[int], budget: int) -> list[int]:
    """Return the frames of the highest losses of each window, at most `budget` of each, and none without loss."""
    chosen: list[int] = []
    for window in sorted(set(windows)):
        own = np.flatnonzero((np.array(windows) == window) & (losses > 0))
        chosen += [int(own[index]) for index in top(losses[own], budget)]
    return chosen


def online(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return rows for n, selector variant and eager share, at a budget of 4n frames; and students trained on each.

    Raises SettingsError if the budget leaves nothing to choose, InputError if the student finds nothing.
    """
    if not corpus.losses().any():
        raise InputError(f"{corpus.video}: the student finds nothing in {len(corpus)} frames, so none is hard")
    trainer, rows, students = Trainer(corpus), [], []
    hardness = np.array([one.value for one in corpus.hardness(range(len(corpus)))])
    for n in counts:
        budget = _per_window(corpus, n)
        for variant, changes in VARIANTS.items():
            for share in EAGER_SHARES:
                settings = _settings(corpus, budget, eager_share=share, **changes)
                rows.append(
                    {"n": n, "variant": variant, "eager_share": share} | _compare(corpus, settings, hardness, n)
                )
        students += _students(trainer, n, budget, seeds)
    tables = [_table(rows), _student_table(students)]
    return Results(
        rows,
        tables,
        (lambda axes: _plot(axes, rows, "overlap"), lambda axes: _plot(axes, rows, "mass")),
        {"students": students},
    )


def _per_window(corpus: Corpus, n: int) -> int:
    budget = FACTOR * n
    if budget >= len(corpus):
        raise SettingsError(
            f"--n {n}: a budget of {budget} leaves nothing of {len(corpus)} to choose: lower it or raise --frames"
        )
    return max(1, round(budget / WINDOWS))


def _settings(corpus: Corpus, budget: int, **changes: float) -> SelectorSettings:
    """Return the edge's settings for this clip: equal windows, and no bootstrap, which is for new cameras."""
    step = corpus.shots[1].at - corpus.shots[0].at
    length = (corpus.shots[-1].at - corpus.shots[0].at + step) / WINDOWS
    return SelectorSettings(frames_per_window=budget, window_s=length, bootstrap=0, **changes)


def _replay(corpus: Corpus, settings: SelectorSettings, seed: int) -> Replay:
    times, thumbnails = [shot.at for shot in corpus.shots], [shot.thumbnail for shot in corpus.shots]
    return replay(settings, corpus.losses().tolist(), times, thumbnails, random.Random(seed))


def _compare(corpus: Corpus, settings: SelectorSettings, hardness: NDArray[np.float64], n: int) -> dict[str, Any]:
    losses, results = corpus.losses(), []
    for seed in range(REPLAYS):
        told = _replay(corpus, settings, seed)
        offline = best_of(losses, told.windows, settings.frames_per_window)
        results.append(_against(told, offline, losses) | _misses(told, hardness, n))
    return merged(results)


def _against(told: Replay, offline: Sequence[int], losses: NDArray[np.float64]) -> dict[str, float | None]:
    forwarded = set(told.hard) | set(told.audits)
    return {
        "offline": len(offline),
        "hard": len(told.hard),
        "audits": len(told.audits),
        "overlap": len(forwarded & set(offline)) / len(offline),
        "mass": float(losses[list(forwarded)].sum() / losses[list(offline)].sum()),
        "delay_s": mean(told.delays) if told.delays else None,
    }


def _misses(told: Replay, hardness: NDArray[np.float64], n: int) -> dict[str, float | None]:
    """Return the share of the n hardest frames that was not forwarded for its loss: true, and estimated by audits."""
    rest = np.setdiff1d(np.arange(len(hardness)), told.hard)
    kept = hardness[told.hard]
    weight = len(rest) / len(told.audits) if told.audits else 0.0
    return {
        "missed": missed(kept, hardness[rest], n),
        "missed_estimated": missed(kept, hardness[told.audits], n, weight) if told.audits else None,
    }


def _students(trainer: Trainer, n: int, budget: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Train on the n hardest frames of what each way forwards, at the edge's default eager share."""
    corpus, forwarded = trainer.corpus, {}
    for variant in ("defaults", "no spacing"):
        told = _replay(corpus, _settings(corpus, budget, **VARIANTS[variant]), 0)
        forwarded[f"online, {variant}"] = sorted({*told.hard, *told.audits})
    forwarded["offline"] = best_of(corpus.losses(), told.windows, budget)
    rows = []
    for name, frames in forwarded.items():
        kept = hardest(frames, corpus.hardness, n)
        flats = [trainer.score(trainer.train(kept, seed), corpus.scale).flat() for seed in seeds]
        rows.append({"n": n, "from": name, "forwarded": len(frames), "kept": len(kept)} | merged(flats))
    return rows


def _table(rows: Sequence[Row]) -> ResultTable:
    return ResultTable(
        f"Online against offline, {WINDOWS} windows, mean of {REPLAYS} draws of audit frames",
        [
            {
                "selector": row["variant"],
                "n": str(row["n"]),
                "eager share": text(row["eager_share"], ".2f"),
                "hard": text(row["hard"], ".0f"),
                "audit": text(row["audits"], ".1f"),
                "offline": text(row["offline"], ".0f"),
                "loss mass": text(row["mass"]),
                "overlap": text(row["overlap"]),
                "delay, s": text(row["delay_s"], ".1f"),
                "missed": text(row["missed"]),
                "estimated": with_spread(row, "missed_estimated") if row["missed_estimated"] is not None else "-",
            }
            for row in rows
        ],
        MISSED_NOTE,
    )


def _student_table(students: Sequence[Row]) -> ResultTable:
    return ResultTable(
        "Students trained on the n hardest of what is forwarded",
        [
            {
                "from": row["from"],
                "n": str(row["n"]),
                "forwarded": str(row["forwarded"]),
                "kept": str(row["kept"]),
                "AP50, teacher": with_spread(row, "teacher_ap50"),
                "AP50:95": with_spread(row, "teacher_ap50_95"),
                "AP50, labels": with_spread(row, "labels_ap50"),
                "AP50:95, labels": with_spread(row, "labels_ap50_95"),
            }
            for row in students
        ],
    )


def _plot(axes: Any, rows: Sequence[Row], key: str) -> None:
    for n, variant in dict.fromkeys((row["n"], row["variant"]) for row in rows):
        own = [row for row in rows if (row["n"], row["variant"]) == (n, variant) and row["delay_s"] is not None]
        axes.plot([row["delay_s"] for row in own], [row[key] for row in own], marker="o", label=f"n = {n}, {variant}")
    titles = {"overlap": "Set overlap with offline", "mass": "Share of the offline loss mass"}
    axes.set(title=titles[key], xlabel="mean delay of a hard frame, s", ylabel="share", ylim=(0, 1.05))
