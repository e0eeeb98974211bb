"""`culling cloud report`: plots and tables of one camera, and a self-contained page for each round.

forwarded.csv, .png   frames seen and forwarded by reason, over the week that the history holds
rounds.csv, .png      AP50 before and after each round
bill.csv, .png        what each day of that week cost, beside full training on all that was seen
scale.csv, .png       the optResolution curves
cost.csv, .png        seconds per stage
round-N.html          one round: its figures, its curves, and the gate's decision
week.html             the week in one page: accuracy, what left, the story of each round and what changed, cost
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from culling.cloud.bill.account import statements
from culling.cloud.bill.cost import EDGE, PARTS
from culling.cloud.page import views
from culling.cloud.page.site.stills import Stills
from culling.cloud.page.week import FILE as WEEK
from culling.cloud.page.week import week_page
from culling.cloud.settings import CloudSettings
from culling.cloud.sheet import Draw, to_csv, to_png
from culling.cloud.store import history
from culling.cloud.store.history import KEEP_MINUTES
from culling.cloud.store.index import Index
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.roster import Roster
from culling.common.clock import DAY_S, SystemClock
from culling.common.errors import StorageError
from culling.common.metrics import REASONS

STEP_MINUTES = 60
"""A report covers a week: hours make a curve that can be read."""

DAYS = 7
"""What the history holds, besides a part of the day before."""

MOST_ROUNDS = 200
"""A month of six rounds a day."""

FEW = 6
"""The bars of fewer rounds keep the width of so many: a single one would fill the plot."""

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light}"
    "table{border-collapse:collapse}td{padding:.2rem 1.5rem .2rem 0;border-bottom:1px solid #ddd}"
    "td:first-child{color:#666}img{max-width:100%}"
)

Row = dict[str, Any]


def write_report(index: Index, settings: CloudSettings, camera: str, out: Path, now: float) -> list[Path]:
    """Write everything about `camera` into the folder `out`; return the files.

    Raises InputError when there is no such camera, StorageError when the folder cannot be written.
    """
    row = Roster(index).require(camera)
    day = history.read(index, int(now // 60) - KEEP_MINUTES, STEP_MINUTES, [camera]).get(camera, [])
    rounds = list(reversed(views.rounds(index, camera, MOST_ROUNDS)))
    bills = _bills(index, settings, camera, now)
    stills = Stills(index, settings, frame_store(settings, index, SystemClock()))
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = [
            *_both(out, "forwarded", _forwarded_rows(day), lambda axes: _plot_forwarded(axes, day)),
            *_both(out, "rounds", _round_rows(rounds), lambda axes: _plot_rounds(axes, rounds)),
            *_both(out, "scale", _scale_rows(rounds), lambda axes: _plot_scale(axes, rounds)),
            *_both(out, "cost", _cost_rows(rounds), lambda axes: _plot_cost(axes, rounds)),
            *_both(out, "bill", _bill_rows(bills), lambda axes: _plot_bills(axes, bills)),
            *(_page(out, turn) for turn in rounds),
            out / WEEK,
        ]
        files[-1].write_text(week_page(row, rounds, bills, out, now, stills), encoding="utf-8")
        return files
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error


# Tables


def _forwarded_rows(day: Sequence[Row]) -> list[Row]:
    return [
        {
            "time": _time(slot["t"]),
            "seen": slot["seen"],
            **{reason: slot[reason] for reason in REASONS},
            "rate": _rate(slot),
            "dropped": slot["dropped"],
            "threshold": round(slot["threshold"], 4),
            "loss_mean": round(slot["loss_mean"], 4),
        }
        for slot in day
    ]


def _round_rows(rounds: Sequence[Row]) -> list[Row]:
    shown = ("id", "state", "trigger", "labelled", "kept", "scale", "map_before", "map_after", "frames", "train_s")
    judged = ("gain_low", "blocks", "provisional", "verdict")
    told = ("scale_why", "steps", "ended", *judged, "model_id", "model_lag_s", "swap", "swap_gap_ms", "reason")
    return [{"started": _time(row["started"]), **{name: row.get(name) for name in (*shown, *told)}} for row in rounds]


def _scale_rows(rounds: Sequence[Row]) -> list[Row]:
    return [
        {"round": row["id"], "chosen": point["scale"] == row.get("scale"), **point, "size": _size(point["size"])}
        for row in rounds
        for point in row.get("curve") or ()
    ]


def _cost_rows(rounds: Sequence[Row]) -> list[Row]:
    return [
        {"round": row["id"], "stage": stage, "seconds": seconds}
        for row in rounds
        for stage, seconds in (row.get("seconds") or {}).items()
    ]


def _bills(index: Index, settings: CloudSettings, camera: str, now: float) -> list[Row]:
    """Return the bills of the last days, by UTC's days, the newest of which is not over; without empty ones."""
    today = now // DAY_S * DAY_S
    starts = [today - DAY_S * before for before in reversed(range(DAYS))]
    found = [statements(index, settings, at, min(at + DAY_S, now), [camera])[camera].row() for at in starts]
    return [row for row in found if row["full"]["frames"] or row["gflops"]]


def _bill_rows(bills: Sequence[Row]) -> list[Row]:
    return [
        {
            "day": _time(row["since"])[:10],
            "frames": row["full"]["frames"],
            **{f"{part}_gflops": row["parts"].get(part, {}).get("gflops") for part in PARTS},
            **{f"{part}_seconds": row["parts"].get(part, {}).get("seconds") for part in PARTS if part != EDGE},
            **{name: row[name] for name in ("gflops", "seconds", "ratio", "ratio_incremental")},
            "full_gflops": row["full"]["gflops"],
            "full_seconds": row["full"]["seconds"],
        }
        for row in bills
    ]


# Plots


def _plot_forwarded(axes: Any, day: Sequence[Row]) -> None:
    times = [datetime.fromtimestamp(slot["t"], UTC) for slot in day]
    bottom = [0.0] * len(day)
    for reason in REASONS:
        shares = [100 * slot[reason] / slot["seen"] if slot["seen"] else 0.0 for slot in day]
        axes.bar(times, shares, width=STEP_MINUTES / 1440, bottom=bottom, label=reason, align="edge")
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    axes.set(title="Forwarded-frame rate", ylabel="% of seen frames", xlabel="UTC")
    axes.figure.autofmt_xdate()


def _plot_rounds(axes: Any, rounds: Sequence[Row]) -> None:
    if judged := [row for row in rounds if "map_after" in row]:
        names = [str(row["id"]) for row in judged]
        axes.plot(names, [row["map_before"] for row in judged], marker="o", linestyle=":", label="student in use")
        axes.plot(names, [row["map_after"] for row in judged], marker="o", label="candidate")
    axes.set(title="Students on held-out frames, against the teacher", xlabel="round", ylabel="AP50", ylim=(0, 1))


def _plot_scale(axes: Any, rounds: Sequence[Row]) -> None:
    for row in rounds[-8:]:
        if curve := row.get("curve"):
            (line,) = axes.plot(
                [point["scale"] for point in curve],
                [point["normalised"] for point in curve],
                marker=".",
                label=f"round {row['id']}",
            )
            chosen = min(curve, key=lambda point: abs(point["scale"] - row["scale"]))
            axes.plot(chosen["scale"], chosen["normalised"], marker="*", markersize=13, color=line.get_color())
    axes.set(title="optResolution (star: chosen)", xlabel="scale", ylabel="relative change of the loss, squared")


def _plot_labels(axes: Any, row: Row) -> None:
    scales = [point["scale"] for point in row["curve"]]
    for key, label in (("ap50", "AP50"), ("ap50_95", "AP50:95")):
        axes.plot(scales, [point[key] for point in row["curve"]], marker=".", label=label)
    axes.axvline(row["scale"], color="grey", linestyle=":", label="chosen")
    axes.set(
        title="The student in use at smaller inputs, by the labels", xlabel="scale", ylabel="change from full size"
    )


def _plot_cost(axes: Any, rounds: Sequence[Row]) -> None:
    names, bottom = [str(row["id"]) for row in rounds], [0.0] * len(rounds)
    for stage in dict.fromkeys(stage for row in rounds for stage in row.get("seconds") or ()):
        values = [(row.get("seconds") or {}).get(stage, 0.0) for row in rounds]
        axes.bar(names, values, bottom=bottom, label=stage)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    # A few rounds stay at the left: the bar of a single one would be as wide as the page.
    axes.set(title="Cost per stage", xlabel="round", ylabel="seconds", xlim=(-0.6, max(len(rounds), FEW) - 0.4))


def _plot_bills(axes: Any, bills: Sequence[Row]) -> None:
    days, bottom = [_time(row["since"])[5:10] for row in bills], [0.0] * len(bills)
    for part in PARTS:
        values = [(row["parts"].get(part, {}).get("gflops") or 0.0) / 1000 for row in bills]
        axes.bar(days, values, bottom=bottom, label=part)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set(title="Cost of each day", xlabel="day, UTC", ylabel="TFLOPs", xlim=(-0.6, DAYS - 0.4))


def _plot_stages(axes: Any, row: Row) -> None:
    seconds = row.get("seconds") or {}
    axes.bar_label(axes.barh(list(seconds), list(seconds.values())), fmt="%g s", padding=4)
    axes.set(title="Cost per stage", xlabel="seconds")
    axes.invert_yaxis()


def _plot_training(axes: Any, row: Row) -> None:
    axes.plot([step for step, _ in row["losses"]], [loss for _, loss in row["losses"]], label="frames learnt from")
    if looks := row.get("looks"):
        axes.plot([step for step, _ in looks], [loss for _, loss in looks], marker=".", label="frames kept aside")
        axes.axvline(row["best_step"], color="grey", linestyle=":", label="the weights that were kept")
    axes.set(title="Training", xlabel="step", ylabel="loss", ylim=(0, None))


# Files


def _both(out: Path, name: str, rows: Sequence[Row], draw: Draw) -> Iterable[Path]:
    table, plot = out / f"{name}.csv", out / f"{name}.png"
    table.write_bytes(to_csv(rows))
    plot.write_bytes(to_png(draw))
    return table, plot


def _page(out: Path, row: Row) -> Path:
    """Write one round as a page that holds its pictures and loads nothing."""
    title = f"Round {row['id']} of {row['camera']}"
    (facts,) = _round_rows([row])
    told = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    if bill := row.get("bill"):
        told += f"<tr><td>whole cost</td><td>{html.escape(bill['told'])}</td></tr>"
    told += "".join(
        f"<tr><td>{'passed' if check['passed'] else 'failed'}</td><td>{html.escape(check['text'])}</td></tr>"
        for check in row.get("checks") or ()
    )
    plots = [lambda axes: _plot_stages(axes, row)]
    if row.get("curve"):
        plots.insert(0, lambda axes: _plot_scale(axes, [row]))
    if any(point.get("ap50") is not None for point in row.get("curve") or ()):
        plots.insert(1, lambda axes: _plot_labels(axes, row))
    if row.get("losses"):
        plots.insert(-1, lambda axes: _plot_training(axes, row))
    images = "".join(
        f'<p><img alt="" src="data:image/png;base64,{base64.b64encode(to_png(plot)).decode()}"></p>' for plot in plots
    )
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><table>{told}</table>{images}</html>\n"
    )
    path = out / f"round-{row['id']}.html"
    path.write_text(text, encoding="utf-8")
    return path


def _rate(slot: Row) -> float | None:
    return round(sum(slot[reason] for reason in REASONS) / slot["seen"], 6) if slot["seen"] else None


def _size(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
