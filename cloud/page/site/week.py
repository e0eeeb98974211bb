"""`culling cloud report --site`: the week of a site as one self-contained page.

A site is a group of edges that the settings' `[sites]` name, or an edge that none has. Cameras that need a person come
first, each with a line; then all of them on one axis of time; then what each round did and what
changed by it.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from culling.cloud.page import views
from culling.cloud.page.board import Board
from culling.cloud.page.site.stills import STYLE as OF_STILLS
from culling.cloud.page.site.stills import Stills
from culling.cloud.page.standing import sentence
from culling.cloud.page.week import DAYS, STYLE, story_of, time_of
from culling.cloud.settings import CloudSettings
from culling.cloud.store import history
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.roster import Roster
from culling.common.atomic import write_atomic
from culling.common.clock import DAY_S, Clock
from culling.common.errors import InputError, StorageError
from culling.common.metrics import REASONS

FILE = "site.html"
PICTURED = 2
"""The newest rounds of a camera whose changes are shown in pictures: of many cameras they are megabytes."""

MOST_ROUNDS = 200
"""Of a camera and a week: more than one an hour."""

HEADS = ("camera", "how it stands", "accuracy", "forwarded", "rounds", "model")
OVER = ("published", "refused", "failed")
HOUR_S = 3600
HIGH, TOP, WIDE, LEFT = 46, 22, 1000, 150
"""Of the timeline, in its own units: a camera's row, the head, the whole, and where the axis begins."""

OF_SITE = (
    "body{max-width:76rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;"
    "padding:.35rem .9rem .35rem 0;border-bottom:1px solid #8886}th{font-weight:500;opacity:.7}.wide{overflow-x:auto}"
    ".r0{color:#c53030;font-weight:650}.r1{color:#b7791f;font-weight:650}.axis{stroke:currentColor;opacity:.25}"
    ".line{width:100%;min-width:44rem;height:auto;display:block}.line text{fill:currentColor;font-size:13px}"
    ".left{fill:#2b6cb0}.silent{fill:#888;opacity:.22}"
    ".back{direction:rtl}.back>*{direction:ltr}"
    "@media(max-width:700px){thead{display:none}table,tbody{display:block}td{border:0;padding:0}"
    "tr{display:grid;grid-template-columns:1fr 1fr;gap:.1rem 1rem;padding:.6rem 0;border-bottom:1px solid #8886}"
    "td:nth-child(2){grid-column:1/-1;order:-1}td:first-child{grid-column:1/-1;order:-2}"
    "td[data-k]::before{content:attr(data-k) ' ';opacity:.7}}"
    ".turn{fill:none;stroke:currentColor;stroke-width:1.5}.turn.published{fill:currentColor}"
)

Row = dict[str, Any]


@dataclass(frozen=True)
class _Camera:
    row: Row
    hours: Sequence[Row]
    rounds: Sequence[Row]


def write_site(
    index: Index, settings: CloudSettings, store: FrameStore, edges: Sequence[str], out: Path, clock: Clock
) -> Path:
    """Write the page of the cameras of those edges into the folder `out`, and return the file.

    Raises InputError for an edge that has no camera, StorageError when the folder cannot be written.
    """
    now = clock.now()
    board = Board(index, dict, clock, settings, waits=False)
    board.refresh()
    past = history.read(index, int((now - DAYS * DAY_S) // 60), 60)
    found = []
    for name in _cameras(index, edges):
        lately = [turn for turn in views.rounds(index, name, MOST_ROUNDS) if turn["started"] >= now - DAYS * DAY_S]
        if (row := board.row(name)) is not None:
            found.append(_Camera(row, past.get(name, []), lately))
    found.sort(key=lambda one: (one.row["standing"]["rank"], one.row["camera"]))
    page = _page(edges, found, Stills(index, settings, store), now)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / FILE, page.encode())
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error
    return out / FILE


def _cameras(index: Index, edges: Sequence[str]) -> list[str]:
    rows = Roster(index).rows()
    known = sorted({row.edge for row in rows})
    for edge in edges:
        if edge not in known:
            raise InputError(f"no edge {edge} has a camera; there are {', '.join(known) or 'none'}")
    return [row.name for row in rows if row.edge in edges]


def _page(edges: Sequence[str], cameras: Sequence[_Camera], stills: Stills, now: float) -> str:
    title = f"A week of {', '.join(edges)}"
    told = "".join(f"<tr>{_line(one)}</tr>" for one in cameras)
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{STYLE}{OF_STILLS}{OF_SITE}</style><h1>{_text(title)}</h1>"
        f"<p>{_text(sentence([one.row for one in cameras], now))}</p>"
        f'<p class="soft">{len(cameras)} cameras, until {time_of(now)}; those first that need somebody</p>'
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{told}</tbody></table></div>'
        f'<h2>The week</h2><div class="wide back">{_timeline(cameras, now)}</div>'
        f'<p class="soft">Bars: frames forwarded of those seen, by the hour, all to one scale. Grey: nothing was '
        f"heard. Triangles: rounds, filled where a student was published.</p>"
        f"<h2>Rounds</h2>{''.join(_stories(one, stills) for one in cameras if one.rounds)}{_without(cameras)}</html>\n"
    )


def _line(one: _Camera) -> str:
    row, stands = one.row, one.row["standing"]
    accuracy = (row["accuracy"] or {}).get("ap50")
    seen, left = sum(slot["seen"] for slot in one.hours), sum(_left(slot) for slot in one.hours)
    states = [(state, sum(turn["state"] == state for turn in one.rounds)) for state in OVER]
    cause = f'<br><span class="soft">{_text(stands["cause"])}</span>' if stands["cause"] else ""
    name = _text(row["camera"])
    if one.rounds:
        name = f'<a href="#{_anchor(row["camera"])}">{name}</a>'
    interval = "" if not accuracy else f"{accuracy['value']:.2f} ({accuracy['low']:.2f} to {accuracy['high']:.2f})"
    cells = (
        f'{name}<br><span class="soft">{_text(row["edge"])}</span>',
        f'<span class="r{stands["rank"]}">{_text(stands["word"])}</span>{cause}',
        interval or "not measured yet",
        f"{left / seen:.2%} of {seen:,}" if seen else "nothing was seen",
        ", ".join(f"{count} {state}" for state, count in states if count) or "none ended",
        _text(row["model"] or "none"),
    )
    keys = ("", "", *(f' data-k="{head}"' for head in HEADS[2:]))
    return "".join(f"<td{key}>{cell}</td>" for key, cell in zip(keys, cells, strict=True))


def _timeline(cameras: Sequence[_Camera], now: float) -> str:
    until = int(now // HOUR_S + 1) * HOUR_S
    since = until - DAYS * int(DAY_S)
    most = max((_share(slot) for one in cameras for slot in one.hours), default=0.0) or 1.0
    high = TOP + HIGH * len(cameras)
    told = "; ".join(f"{one.row['camera']}: {len(one.rounds)} rounds" for one in cameras)
    parts = [*_days(since, until, high)]
    for at, one in enumerate(cameras):
        parts += _row(one, TOP + HIGH * at, since, until, most)
    return (
        f'<svg class="line" viewBox="0 0 {WIDE} {high}" role="img" aria-label="The week by the hour. {_text(told)}">'
        f"{''.join(parts)}</svg>"
    )


def _days(since: int, until: int, high: int) -> Iterator[str]:
    for at in range(-(-since // int(DAY_S)) * int(DAY_S), until, int(DAY_S)):
        x = _x(at, since, until)
        day = datetime.fromtimestamp(at, UTC).strftime("%a %d")
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{high}"/>'
        yield f'<text x="{x + 3:.1f}" y="{TOP - 8}">{day}</text>'


def _row(one: _Camera, top: int, since: int, until: int, most: float) -> Iterator[str]:
    floor, wide = top + HIGH - 6, (WIDE - LEFT) / ((until - since) / HOUR_S)
    name = one.row["camera"]
    short = name if len(name) <= 20 else f"{name[:19]}…"
    yield f'<text x="0" y="{floor - 6}">{_text(short)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDE}" y1="{floor}" y2="{floor}"/>'
    heard = {int(slot["t"] // HOUR_S): slot for slot in one.hours}
    for first, hours in _silences(heard, since // HOUR_S, until // HOUR_S):
        place = f'x="{_x(first * HOUR_S, since, until):.1f}" y="{top + 6}" width="{wide * hours:.1f}"'
        yield f'<rect class="silent" {place} height="{HIGH - 12}"/>'
    for hour in sorted(heard):
        x = _x(hour * HOUR_S, since, until)
        if tall := (HIGH - 18) * _share(heard[hour]) / most:
            size = f'width="{wide * 0.85:.2f}" height="{tall:.1f}"'
            yield f'<rect class="left" x="{x:.1f}" y="{floor - tall:.1f}" {size}/>'
    for turn in one.rounds:
        x, y = _x(turn["finished"] or turn["started"], since, until), top + 2
        yield (
            f'<path class="turn {_text(turn["state"])}" d="M{x - 5:.1f} {y}h10l-5 9z">'
            f"<title>round {turn['id']}: {_text(turn['state'])}</title></path>"
        )


def _silences(heard: Collection[int], first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where hours begin of which nothing was heard, and how many in a row they are."""
    start = first
    for hour in [*(hour for hour in sorted(heard) if first <= hour < end), end]:
        if hour > start:
            yield start, hour - start
        start = hour + 1


def _stories(one: _Camera, stills: Stills) -> str:
    name = one.row["camera"]
    told = [
        story_of(turn, stills.of(turn["id"]) if at < PICTURED else "") for at, turn in enumerate(_newest(one.rounds))
    ]
    return f'<section id="{_anchor(name)}"><h3>{_text(name)}</h3>{"".join(told)}</section>'


def _without(cameras: Sequence[_Camera]) -> str:
    names = [one.row["camera"] for one in cameras if not one.rounds]
    return f'<p class="soft">No round started in this week: {_text(", ".join(names))}.</p>' if names else ""


def _newest(rounds: Iterable[Row]) -> list[Row]:
    return sorted(rounds, key=lambda turn: -turn["id"])


def _x(at: float, since: int, until: int) -> float:
    return LEFT + (WIDE - LEFT) * (min(max(at, since), until) - since) / (until - since)


def _share(slot: Mapping[str, Any]) -> float:
    return _left(slot) / slot["seen"] if slot["seen"] else 0.0


def _left(slot: Mapping[str, Any]) -> int:
    return int(sum(slot[reason] for reason in REASONS))


def _anchor(name: str) -> str:
    return "camera-" + name.encode().hex()


def _text(value: str) -> str:
    return html.escape(value)
