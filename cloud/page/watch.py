"""`culling watch`: the fleet in a terminal, from the same event stream as the page.

A live table where the output is a terminal, else a line for each change, or with `--json` every row that arrives. A
lost connection is shown and retried; only the first one has to succeed.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from culling.cloud.page.standing import sentence
from culling.common.errors import InputError

DEFAULT_URL = "http://127.0.0.1:9466"
SILENT_S = 25.0
"""The service says something every ten seconds: a longer silence is a lost connection."""

RETRY_S = 2.0
"""A service that restarts listens again within seconds."""

DETAIL_S = 5.0
"""The charts of one camera change by the minute."""

BLOCKS = "▁▂▃▄▅▆▇█"
REASONS = ("hard", "audit", "bootstrap", "manual")
DAY = "over the day"
COLUMNS = (
    "camera",
    "state",
    "now",
    "day",
    DAY,
    "keeping up",
    "accuracy",
    "model",
    "scale",
    "spool",
    "lag",
    "last seen",
)
GIVEN_UP = ("accuracy", "keeping up", DAY, "lag", "scale", "day", "spool", "model")
"""Columns left out where there is no room for all, in this order; what does not keep up has a line of its own."""

WIDTHS = {"state": 6, "now": 6, "day": 6, "spool": 5, "lag": 6, "last seen": 10}
GAP = 2
"""Columns between two others, as rich pads them."""

SLOTS = 48
"""Half-hours of a day."""

HINTS = 3
"""A machine that is too slow is so for all its cameras: more hints than these say the same again."""

COLOURS = ("bold red", "yellow", "cyan", "dim", "dim", "green")
"""By the rank of how a camera stands: those that need a person first."""

Row = dict[str, Any]
app = typer.Typer(add_completion=False)


@dataclass
class Fleet:
    """What the service has sent so far; `lost` says why the connection is lost, or is ""."""

    rows: dict[str, Row] = field(default_factory=dict)
    sparks: dict[str, list[Row]] = field(default_factory=dict)
    lost: str = ""

    def take(self, news: Row) -> list[Row]:
        """Bring it up to date; return the rows that arrived, by name."""
        if news["all"]:
            self.rows.clear()
            self.sparks.clear()
        self.rows.update({row["camera"]: row for row in news["cameras"]})
        if "sparks" in news:
            self._take_slots(news["sparks"], news["day"])
        return sorted(news["cameras"], key=lambda row: str(row["camera"]))

    def _take_slots(self, sparks: dict[str, list[Row]], day: float) -> None:
        for name in {*self.sparks, *sparks}:
            slots = {slot["t"]: slot for slot in (*self.sparks.get(name, ()), *sparks.get(name, ()))}
            self.sparks[name] = [slot for start, slot in sorted(slots.items()) if start >= day]


@app.command(epilog="Example: culling watch north-door --url http://cloud.example:9466")
def watch(
    camera: Annotated[
        str | None, typer.Argument(help="Name of a camera, to show its charts as well.", show_default="none")
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the page.")] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print each row that arrives as one line of JSON.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show the present state and exit.")] = False,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with a token, where the page asks who it is.")
    ] = None,
) -> None:
    """Watch every camera: its state, what it forwards, its model, its spool. Stop with Ctrl-C."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: expected the page's address, such as {DEFAULT_URL}")
    fleet, console, asked = Fleet(), Console(), Asked(url, _token(token_file))
    if as_json:
        for rows in _follow(asked, fleet, once):
            for row in rows:
                print(json.dumps(row), flush=True)
    elif console.is_terminal and not once:
        _show(asked, fleet, camera, console)
    elif once:
        for _ in _follow(asked, fleet, once):
            console.print(
                told(fleet),
                *hints(fleet),
                *rounds(fleet),
                _table(fleet, console.width),
                *([] if camera is None else _charts(asked, camera)),
            )
    else:
        _print_lines(_follow(asked, fleet, once))


@dataclass(frozen=True)
class Asked:
    """The page that is watched, and the token that it is asked with, "" for none."""

    url: str
    token: str = ""

    def request(self, path: str, **headers: str) -> urllib.request.Request:
        """Return a request for what lies below the page's address."""
        known = {"X-Culling-Token": self.token} if self.token else {}
        return urllib.request.Request(f"{self.url.rstrip('/')}/{path}", headers={**headers, **known})


def _token(file: Path | None) -> str:
    try:
        return "" if file is None else file.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise InputError(f"--token-file {file}: cannot be read: {error.strerror}") from None


def events(asked: Asked) -> Iterator[tuple[str, str]]:
    """Yield (event, data) from the stream of a page. Raises OSError when it ends or falls silent."""
    request = asked.request("events", Accept="text/event-stream")
    with urllib.request.urlopen(request, timeout=SILENT_S) as stream:
        kind = ""
        for line in stream:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, value
    raise OSError("the service closed the stream")


def _follow(asked: Asked, fleet: Fleet, once: bool) -> Iterator[list[Row]]:
    """Yield the rows that arrive, reconnecting without end. Raises InputError when the first connection fails."""
    reached = False
    while True:
        try:
            for kind, data in events(asked):
                reached, fleet.lost = True, ""
                if kind == "fleet":
                    yield fleet.take(json.loads(data))
                    if once:
                        return
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if not reached:
                raise InputError(_unreached(asked, error, reason)) from None
            fleet.lost = str(reason)
            time.sleep(RETRY_S)


def _unreached(asked: Asked, error: Exception, reason: object) -> str:
    if isinstance(error, HTTPError) and error.code == HTTPStatus.UNAUTHORIZED:
        return f"{asked.url} asks who it is: give --token-file, with a token of `culling cloud token create`"
    return f"no page answers at {asked.url}: {reason}; is `culling cloud serve` running?"


def _show(asked: Asked, fleet: Fleet, camera: str | None, console: Console) -> None:
    charts: list[Any] = []
    due = 0.0
    with Live(get_renderable=lambda: screen(fleet, charts, console), console=console, refresh_per_second=4):
        for _ in _follow(asked, fleet, False):
            if camera is not None and time.monotonic() >= due:
                due = time.monotonic() + DETAIL_S
                charts[:] = _charts(asked, camera)


def screen(fleet: Fleet, charts: Sequence[Any], console: Console) -> Group:
    """Return what fits on the screen: a lost link, the charts, and as many rows of the fleet as there is room for."""
    lost = [Text(f"connection lost: {fleet.lost}; retrying", style="bold red")] if fleet.lost else []
    above = Group(*lost, told(fleet), *hints(fleet), *rounds(fleet), *charts)
    room = max(1, console.height - len(console.render_lines(above)) - 3)  # the heading, the last line, and the cursor
    more = len(fleet.rows) - room
    cut = [Text(f"and {more} more", style="dim")] if more > 0 else []
    return Group(above, _table(fleet, console.width, room), *cut)


def told(fleet: Fleet) -> Text:
    """Return the fleet in one sentence, as the page says it."""
    rows: list[Row] = [
        {"camera": clean(name), "standing": standing_of(row)} for name, row in sorted(fleet.rows.items())
    ]
    worst = min((row["standing"]["rank"] for row in rows), default=len(COLOURS) - 1)
    return Text(sentence(rows, time.time()), COLOURS[worst], no_wrap=True, overflow="ellipsis")


def standing_of(row: Row) -> Row:
    """Return how a camera stands; of a service of an earlier version, what its state says."""
    live = row["state"] == "live"
    return row.get("standing") or {"rank": 5 if live else 0, "word": "fine" if live else row["state"], "since": None}


def rounds(fleet: Fleet) -> list[Text]:
    """Return a line for each round that runs: its stage, how much of it is done, and the time left."""
    found = [(clean(name), row["round"]) for name, row in sorted(fleet.rows.items()) if row.get("round")]
    return [Text(f"round {turn['id']} of {name}: {clean(turn['told'])}", style="cyan") for name, turn in found]


def hints(fleet: Fleet) -> list[Text]:
    """Return what to do about the first few cameras whose students do not keep up, one line each."""
    slow = [(clean(name), row["keeping_up"]) for name, row in sorted(fleet.rows.items()) if _too_slow(row)]
    lines = [f"{name}: keeping up: {kept['told']}; {kept['hint']}" for name, kept in slow[:HINTS]]
    more = [f"and {len(slow) - HINTS} more do not keep up"] if len(slow) > HINTS else []
    return [Text(clean(line), style="yellow") for line in (*lines, *more)]


def _print_lines(news: Iterator[list[Row]]) -> None:
    said: dict[str, str] = {}
    for rows in news:
        for row in rows:
            words = (_word(row), _rate(row), row.get("model") or "-", _spool(row))
            line = "  ".join((*words, f"keeping up: {_pace(row)}") if _too_slow(row) else words)
            if said.get(row["camera"]) != line:
                said[row["camera"]] = line
                print(f"{datetime.now():%H:%M:%S}  {clean(row['camera'])}  {line}", flush=True)


def _table(fleet: Fleet, width: int, most: int | None = None) -> Table:
    """Return `most` cameras, or all, in `width` columns, those that need a person first."""
    names = sorted(fleet.rows, key=lambda name: (standing_of(fleet.rows[name])["rank"], name))
    cells = {name: _cells(fleet.rows[name], fleet.sparks.get(name, [])) for name in names}
    widths = _widths(list(cells.values()), width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for column, wide in widths.items():
        justify: Literal["left", "right"] = "right" if column in ("now", "day", "scale", "spool", "lag") else "left"
        table.add_column(column, justify=justify, no_wrap=True, width=wide)
    for name in names[:most]:
        day = Text(spark(fleet.sparks.get(name, []), count=widths.get(DAY, 0)))
        table.add_row(*((cells[name] | {DAY: day})[column] for column in widths))
    return table


def _cells(row: Row, slots: list[Row]) -> dict[str, Text]:
    seen = sum(slot["seen"] for slot in slots)
    return {
        "camera": Text(clean(row["camera"]), style="bold"),
        "state": Text(_word(row), style=COLOURS[standing_of(row)["rank"]]),
        "now": Text(_rate(row)),
        "day": Text(_percent(sum(map(_forwarded, slots)) / seen) if seen else "-"),
        "keeping up": Text(_pace(row), style="yellow" if _too_slow(row) else ""),
        "accuracy": Text(_accuracy(row)),
        "model": Text(clean(row.get("model") or "-")),
        "scale": Text(f"{row['scale']:.2f}" if row.get("scale") else "-"),
        "spool": Text(_spool(row)),
        "lag": Text(f"{row['lag_s']:.0f} s" if row.get("lag_s") else "-"),
        "last seen": Text(ago(None if row["heard"] is None else time.time() - row["heard"])),
    }


def _widths(rows: list[dict[str, Text]], width: int) -> dict[str, int]:
    """Return the columns that fit into `width`, each as wide as its widest cell; the day takes what is left."""
    widths = {
        name: max([len(name), WIDTHS.get(name, 0), *(row[name].cell_len for row in rows if name in row)])
        for name in COLUMNS
    }

    def left() -> int:
        return width - sum(widths.values()) - GAP * len(widths)

    for column in GIVEN_UP:
        if left() < 0:
            del widths[column]
    if DAY in widths:
        widths[DAY] = min(SLOTS, widths[DAY] + left())
    return widths


def spark(slots: list[Row], now: float | None = None, count: int = SLOTS, step: float = 1800.0) -> str:
    """Return the forwarded rate over the last `count` slots of `step` seconds as blocks; a space is no data."""
    end = ((time.time() if now is None else now) // step + 1) * step
    rates = {int(count - (end - slot["t"]) // step): _forwarded(slot) / slot["seen"] for slot in slots if slot["seen"]}
    top = max(rates.values(), default=0.0) or 1.0
    return "".join(BLOCKS[min(7, int(7.999 * rates[place] / top))] if place in rates else " " for place in range(count))


def _charts(asked: Asked, camera: str) -> list[Any]:
    """Return one camera's hour and losses, or why they cannot be read."""
    try:
        request = asked.request(f"api/cameras/{quote(camera, safe='')}")
        with urllib.request.urlopen(request, timeout=5) as answer:
            told = json.load(answer)
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            raise InputError(f"there is no camera {camera}: see `culling cloud status`") from None
        return [Text(f"{clean(camera)}: {error}", style="red")]
    except (OSError, ValueError) as error:
        return [Text(f"{clean(camera)}: {error}", style="red")]
    chart = Table(box=None, pad_edge=False, title=clean(camera), title_justify="left", show_header=False)
    hour = spark(told["hour"], count=60, step=60.0)
    chart.add_row("forwarded, last hour by the minute", hour)
    chart.add_row(
        "swaps", Text(", ".join(f"{clean(swap['model_id'])} {swap['outcome']}" for swap in told["swaps"][:5]))
    )
    total = sum(told["losses"]) or 1
    edges = [0.0, *told["buckets"]]
    for low, count in zip(edges, told["losses"], strict=False):
        share = count / total
        chart.add_row(f"loss from {low:g}", f"{'█' * round(40 * share)} {share:.1%}")
    if told["threshold"]:
        chart.add_row("threshold", f"{told['threshold']:.2f}")
    if told["ranker"]:
        chart.add_row("threshold", "none: a learned ranker chooses the frames, not their loss")
    for kind in ("skipped", "dropped"):
        chart.add_row(kind, Text(", ".join(f"{clean(why)} {count}" for why, count in told[kind].items()) or "-"))
    return [chart]


def clean(text: str) -> str:
    """Return `text` without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _word(row: Row) -> str:
    return clean(str(standing_of(row)["word"]))


def _forwarded(slot: Row) -> int:
    return sum(int(slot[reason]) for reason in REASONS)


def _rate(row: Row) -> str:
    """A camera that is not live has no rate, which is not a rate of 0 %."""
    if row["state"] != "live":
        return "-"
    return "…" if row["rate"] is None else _percent(row["rate"])


def _pace(row: Row) -> str:
    kept = row.get("keeping_up")  # a service of an earlier version does not tell
    return clean(kept["told"]) if kept else "-"


def _accuracy(row: Row) -> str:
    ap50 = (row.get("accuracy") or {}).get("ap50")
    return f"{ap50['value']:.2f} ({ap50['low']:.2f}-{ap50['high']:.2f})" if ap50 else "-"


def _too_slow(row: Row) -> bool:
    kept = row.get("keeping_up")
    return kept is not None and not kept["enough"]


def _percent(share: float) -> str:
    return f"{share:.2%}" if share else "0 %"


def _spool(row: Row) -> str:
    return "-" if row.get("spool_frames") is None else str(row["spool_frames"])


def ago(seconds: float | None) -> str:
    """Return how long ago something was, in words; None is never."""
    if seconds is None:
        return "never"
    age = max(0, int(seconds))
    return f"{age} s ago" if age < 120 else f"{age // 60} min ago" if age < 7200 else f"{age // 3600} h ago"
