"""The week of a camera as one self-contained page: how right it is, what left, what each round did, what it cost."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from culling.cloud.control.steering.accuracy import read_measured
from culling.cloud.evaluation.accuracy import Estimate
from culling.cloud.page.site.stills import STYLE as OF_STILLS
from culling.cloud.page.site.stills import Stills
from culling.cloud.page.story import span
from culling.cloud.store.roster import CameraRow
from culling.common.clock import DAY_S

FILE = "week.html"
DAYS = 7
PLOTS = {"forwarded.png": "What left, hour by hour", "rounds.png": "Students on held-out frames", "bill.png": "Cost"}
"""Plots of the report that the page holds, under these headings."""

STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;"
    "padding:0 1rem}h2{margin:2rem 0 .4rem;font-size:1.15rem}article{border-left:4px solid #888;padding:.1rem 1rem;"
    "margin:1rem 0}.published{border-color:#2f855a}.refused{border-color:#b7791f}.failed{border-color:#c53030}"
    "img{max-width:100%;background:#fff}.soft{opacity:.7}p{margin:.3rem 0}"
)

Row = dict[str, Any]


def week_page(
    camera: CameraRow, rounds: Sequence[Row], bills: Sequence[Row], folder: Path, now: float, stills: Stills
) -> str:
    """Return the page; its plots are read from `folder`, and `rounds`, the oldest first, are narrowed to the week."""
    lately = [turn for turn in rounds if turn["started"] >= now - DAYS * DAY_S]
    title = f"A week of {camera.name}"
    told = "".join(story_of(turn, stills.of(turn["id"])) for turn in reversed(lately))
    stories = told or "<p>No round started in this week.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{OF_STILLS}</style><h1>{html.escape(title)}</h1>"
        f'<p class="soft">edge {html.escape(camera.edge)}, until {time_of(now)}</p>'
        f"{''.join(f'<p>{html.escape(line)}</p>' for line in _sums(camera, lately, bills))}"
        f"{''.join(_plot(folder / name, heading) for name, heading in PLOTS.items())}"
        f"<h2>Rounds</h2>{stories}</html>\n"
    )


def _sums(camera: CameraRow, rounds: Sequence[Row], bills: Sequence[Row]) -> list[str]:
    """Return the week in a few sentences."""
    measured = read_measured(camera)
    found = [] if measured is None or measured.now.ap50 is None else [_accuracy(measured.model_id, measured.now.ap50)]
    ended = [f"{count} {state}" for state in ("published", "refused", "failed") if (count := _count(rounds, state))]
    found.append(f"{len(rounds)} rounds: {', '.join(ended)}." if ended else "No round ended.")
    gains = [turn["map_after"] - turn["map_before"] for turn in rounds if turn["state"] == "published"]
    if gains:
        found.append(f"By their gates, the published ones gained {sum(gains):+.3f} AP50 in total.")
    spent = sum(row["gflops"] or 0.0 for row in bills)
    full = sum(row["full"]["gflops"] or 0.0 for row in bills if row["gflops"])
    if spent and full:
        found.append(f"It cost 1/{full / spent:,.0f} of training on every frame.")
    return found


def _accuracy(model: str, ap50: Estimate) -> str:
    return f"{model} has an AP50 of {ap50.value:.2f} ({ap50.low:.2f} to {ap50.high:.2f}) on all that the camera sees."


def _count(rounds: Sequence[Row], state: str) -> int:
    return sum(turn["state"] == state for turn in rounds)


def story_of(turn: Row, changed: str = "") -> str:
    """Return what a round did as HTML; `changed` is what changed by it, as HTML."""
    took = f", took {span(turn['finished'] - turn['started'])}" if turn["finished"] else ""
    head = f"{time_of(turn['started'])}: {turn['started_by']}{took}"
    lines = [turn["told"], *turn["story"]]
    return (
        f'<article class="{html.escape(turn["state"])}"><h3>Round {turn["id"]}: {html.escape(turn["state"])}</h3>'
        f'<p class="soft">{html.escape(head)}</p>{"".join(f"<p>{html.escape(line)}</p>" for line in lines if line)}'
        f"{changed}</article>"
    )


def _plot(path: Path, heading: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<h2>{html.escape(heading)}</h2><img alt="{html.escape(heading)}" src="data:image/png;base64,{data}">'


def time_of(at: float) -> str:
    """Return a time as a person reads it, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %H:%M UTC")
