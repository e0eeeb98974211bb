"""Draw the figures of these pages that come from code and from results of studies: `python docs/images/draw.py`.

`selector.svg` is `examples/confidence_loss.py`'s own figure, written with `--out docs/images/selector.svg`.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from culling.common.selection.confidence import POLICIES, confidence_loss

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "tests/bench/results"

COLOURS = ("#999999", "#555555", "#e69f00", "#56b4e9", "#d55e00", "#009e73")
MORE = "random, for full"


def confidence(out: Path) -> None:
    """Draw the confidence loss of one box over its score, for each policy, from the policy's floor on."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for policy in POLICIES.values():
        if policy.power:  # of one box it is the loss of another policy
            continue
        scores = np.linspace(policy.floor, 1, 200)
        axes.plot(scores, confidence_loss(scores, policy), label=policy.name)
    axes.axhline(0, color="#bbb", linewidth=1)
    axes.set(xlabel="score of a box", ylabel="its part of the loss", xlim=(0, 1))
    axes.legend()
    _save(figure, out)


def recipes(out: Path) -> None:
    """Draw AP50:95 by the label file of every recipe on each camera of `culling study recipes`, over the seeds."""
    found = {path.name.split("-recipes")[0]: json.loads(path.read_text()) for path in RESULTS.glob("*-recipes.json")}
    figure = Figure(figsize=(2.2 + 1.7 * len(found), 2.9), layout="constrained")
    every = figure.subplots(1, len(found), sharey=True)
    for axes, (camera, study) in zip(every, sorted(found.items()), strict=True):
        rows = study["rows"]
        at = range(len(rows))
        axes.barh(at, [row["ap50_95"] for row in rows], color="#9db8d2")
        for place, row in zip(at, rows, strict=True):
            axes.plot([row["ap50_95_min"], row["ap50_95_max"]], [place, place], color="black", linewidth=1)
        axes.set(title=camera, xlabel="AP50:95", xlim=(0, 1), yticks=at, yticklabels=[row["recipe"] for row in rows])
    every[0].invert_yaxis()
    _save(figure, out)


def day(out: Path) -> None:
    """Draw the strategies of table 2 on two composed days of highway: by exact labels, over n and the seeds."""
    study = json.loads((RESULTS / "highway-day-table2.json").read_text())
    figure = Figure(figsize=(10, 4), layout="constrained")
    names = dict.fromkeys(row["strategy"] for row in study["rows"])
    for axes, (key, title) in zip(
        figure.subplots(1, 2), (("cars_ap50", "cars"), ("labels_ap50", "mean of cars and trucks")), strict=True
    ):
        for name, colour in zip((name for name in names if name != MORE), COLOURS, strict=True):
            rows = [row for row in study["rows"] if row["strategy"] in (name, MORE if name == "random" else name)]
            value, least, most = (np.array([row[f"{key}{part}"] for row in rows]) for part in ("", "_min", "_max"))
            numbers = [row["n"] for row in rows]
            axes.errorbar(
                numbers, value, [value - least, most - value], marker="o", capsize=3, color=colour, label=name
            )
        axes.axhline(study["untrained"][key], color="black", linestyle=":", linewidth=1, label="no training")
        axes.axhline(study["teacher"][key], color="black", linestyle="--", linewidth=1, label="teacher")
        sizes = sorted({row["n"] for row in study["rows"]})
        axes.set(xscale="log", xlabel="frames to learn from, of 6,480", ylabel="AP50 by exact labels", title=title)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    axes.legend(fontsize=8, loc="upper left")
    _save(figure, out)


def live(out: Path) -> None:
    """Draw how right each way through a composed day of parking was for cars, window by window; the paced one is there
    what the loop is.
    """
    rows = json.loads((RESULTS / "parking-day-live.json").read_text())["rows"]
    styles = {"none": "k:", "teacher": "k--"}
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(row["way"] for row in rows if row["way"] != "paced"):
        values = [row["labels_car_ap50"] for row in rows if row["way"] == way]
        axes.plot([4 * place + 2 for place in range(len(values))], values, styles.get(way, "-"), marker=".", label=way)
    axes.set(xlabel="hour", ylabel="AP50 of cars by exact labels", xticks=range(0, 29, 4), ylim=(0, 1.02))
    axes.legend(fontsize=8, loc="lower right")
    _save(figure, out)


def _save(figure: Figure, out: Path) -> None:
    with matplotlib.rc_context({"svg.hashsalt": "culling"}):
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    confidence(HERE / "confidence-loss.svg")
    recipes(HERE / "recipes.svg")
    day(HERE / "day-table2.svg")
    live(HERE / "day-live.svg")
