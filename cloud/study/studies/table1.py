"""Table 1 of the paper on one clip: no training, culled sets of n frames, and the whole training part.

Culled rows take the paper's whole path: the 4n highest confidence losses, the n hardest of those, the scale that
optResolution finds on them by the loss, training for it. They are measured at that scale, which is what would be
shipped, and at full size, which is what the paper's table shows. Everything trains for the same number of epochs.

Where there are many more frames than n, as of a day, random sets stand for all of them (`basis/everything.py`); what
full training costs is computed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from culling.cloud.bill.cost import DAY_FRAMES, EDGE, LABELS, NOTHING, Bill
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.everything import stands
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import FACTOR, hardest, top
from culling.cloud.study.basis.training import Trainer
from culling.cloud.study.cost import Prices, TrainedSelection

STAGES = {"student": EDGE, "teacher": LABELS, "resolution": "resolution", "training": "train"}
"""The names of this study's results, and the parts of the bill that they are."""

UNITS = ("seconds", "gflops")
LENGTHS = {"clip": "the clip's, measured", "day": f"{DAY_FRAMES:,}, computed"}
RATIO_NOTE = (
    "paper: teacher and training on every frame, over student on every frame, teacher on 4n, optResolution and "
    "training on n; incremental: without the student's pass"
)


def table1(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return the rows for n in `counts` between no training and full training, with what each cost."""
    trainer = Trainer(corpus)
    entries = [_cull(trainer, n, seeds) for n in counts]
    for stand in stands(trainer, max(counts), seeds):
        name = "full" if stand.whole else f"random {stand.size}"
        entries.append(TrainedSelection(name, stand.chosen[0], stand.chosen[0], None, stand.students, corpus.scale))
    prices = Prices(trainer)
    bills = [(prices.clip(entry), prices.day(entry)) for entry in entries]
    untrained = trainer.score(None, corpus.scale).flat()
    rows = [
        {"name": "no training", "labelled": 0, "kept": 0, "scale": corpus.scale, "steps": 0}
        | merged([untrained])
        | merged([untrained], "full_size_")
        | _bill_row(Bill({}), Bill({}), None)
    ]
    for entry, (clip, day) in zip(entries, bills, strict=True):
        culled = entry.search is not None
        rows.append(_entry_row(trainer, entry) | _bill_row(clip, day, bills[-1] if culled else None))
    return Results(rows, _tables(rows), (lambda axes: _plot_precision(axes, rows), lambda axes: _plot_cost(axes, rows)))


def _cull(trainer: Trainer, n: int, seeds: Sequence[int]) -> TrainedSelection:
    corpus = trainer.corpus
    labelled = top(corpus.losses(), FACTOR * n)
    kept = hardest(labelled, corpus.hardness, n)
    search = trainer.search(kept)
    trained = [trainer.train(kept, seed, search.chosen) for seed in seeds]
    return TrainedSelection(f"culled {n}", labelled, kept, search, trained, search.chosen)


def _entry_row(trainer: Trainer, entry: TrainedSelection) -> dict[str, Any]:
    row = {
        "name": entry.name,
        "labelled": len(entry.labelled),
        "kept": len(entry.kept),
        "scale": entry.scale,
        "steps": entry.students[0].steps,
    }
    shipped = [trainer.score(student, entry.scale).flat() for student in entry.students]
    at_full = [trainer.score(student, trainer.corpus.scale).flat() for student in entry.students]
    return row | merged(shipped) | merged(at_full, "full_size_")


def _bill_row(clip: Bill, day: Bill, full: tuple[Bill, Bill] | None) -> dict[str, Any]:
    """Return what a row cost and, given the bills of full training, how much less that is."""
    row: dict[str, Any] = {}
    for length, bill in (("clip", clip), ("day", day)):
        for unit in UNITS:
            row |= {
                f"{length}_{stage}_{unit}": getattr(bill.parts.get(part, NOTHING), unit)
                for stage, part in STAGES.items()
            }
    for at, (length, bill) in enumerate((("clip", clip), ("day", day))):
        for name, own in (("paper", bill.total), ("incremental", bill.incremental)):
            ratio = full[at].total.over(own) if full else None
            row |= {f"{length}_ratio_{name}_{unit}": getattr(ratio, unit, None) for unit in UNITS}
    return row


def _tables(rows: Sequence[Row]) -> list[ResultTable]:
    culled = [row for row in rows if row["name"].startswith("culled")]
    note = "seconds are measured on this machine, GFLOPs counted"
    if rows[-1]["name"] != "full":
        note += "; random sets stand for all frames, and what these cost is computed"
    return [
        ResultTable(
            "Table 1: precision on the part held back, by the teacher",
            [_precision_line(row, "teacher") for row in rows],
        ),
        ResultTable("Table 1: the same, by the label file", [_precision_line(row, "labels") for row in rows]),
        ResultTable(
            "Table 1: cost at the clip's length",
            [_cost_line(row, unit) for unit in UNITS for row in rows[1:]],
            note,
        ),
        ResultTable("Table 1: how many times as much full training costs", _ratio_lines(culled), RATIO_NOTE),
    ]


def _precision_line(row: Row, truth: str) -> dict[str, str]:
    measures = {"VOC07": "voc07", "AP50": "ap50", "AP50:95": "ap50_95"}
    return {
        "students": row["name"],
        "labelled": str(row["labelled"]),
        "steps": str(row["steps"]),
        "scale": text(row["scale"], ".2f"),
        **{heading: with_spread(row, f"{truth}_{name}") for heading, name in measures.items()},
        **{
            f"{heading}, full size": with_spread(row, f"full_size_{truth}_{name}") for heading, name in measures.items()
        },
    }


def _cost_line(row: Row, unit: str) -> dict[str, str]:
    stages = {stage: text(row[f"clip_{stage}_{unit}"], ",.1f") for stage in STAGES}
    return {"students": row["name"], "unit": unit} | stages


def _ratio_lines(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {"definition": definition, "frames": LENGTHS[length], "unit": unit}
        | {row["name"]: text(row[f"{length}_ratio_{definition}_{unit}"], ",.1f") for row in rows}
        for definition in ("paper", "incremental")
        for length in LENGTHS
        for unit in UNITS
    ]


def _plot_precision(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [row["name"] for row in rows]
    for key, label in (("teacher_ap50", "against the teacher"), ("labels_ap50", "against the labels")):
        if all(row[key] is not None for row in rows):
            least = [row[key] - row[f"{key}_min"] for row in rows]
            most = [row[f"{key}_max"] - row[key] for row in rows]
            axes.errorbar(names, [row[key] for row in rows], [least, most], marker="o", capsize=3, label=label)
    axes.set(title="Students on the part held back", ylabel="AP50", ylim=(0, 1))


def _plot_cost(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    names, bottom = [row["name"] for row in rows[1:]], [0.0] * (len(rows) - 1)
    for stage in STAGES:
        values = [row[f"day_{stage}_seconds"] / 3600 for row in rows[1:]]
        axes.bar(names, values, bottom=bottom, label=stage)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set(title=f"Cost of a day of {DAY_FRAMES:,} frames, computed", ylabel="hours on this machine")
