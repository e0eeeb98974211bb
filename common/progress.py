"""How far a long command is: a bar on a terminal, else a plain line now and then; or a line for each of its steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

EVERY_S = 30.0
"""Seconds between plain lines: enough to follow a run, few enough for a log."""

Show = Callable[[int, str], None]
"""Called with how many are done by now, and a note to show behind that."""


Say = Callable[[str], None]
"""Called with what a command begins to do."""


def say(text: str) -> None:
    """Say on stderr what a slow command is doing now."""
    print(text, file=sys.stderr, flush=True)


def say_nothing(text: str) -> None:
    """Take the place of `say` where nobody waits for it."""


@contextmanager
def shown(title: str, unit: str, total: int) -> Iterator[Show]:
    """Show on stderr how many of `total` units are done, and the time that is left."""
    if not sys.stderr.isatty():
        yield _plain(title, unit, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # Redrawn on progress only: a thread that redraws all the time would take time from what a bench measures.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, note: progress.update(task, completed=done, description=f"{title}{note}", refresh=True)


def _plain(title: str, unit: str, total: int, clock: Callable[[], float] = time.monotonic) -> Show:
    began = last = clock()
    first: int | None = None

    def show(done: int, note: str) -> None:
        nonlocal first, last
        now = clock()
        first = done if first is None else first  # a resumed run begins in the middle: its pace is measured from there
        if done >= total:
            print(f"{title}: {unit} {done}/{total}{note}", file=sys.stderr)
        elif now - last >= EVERY_S:
            last = now
            left = (total - done) * (now - began) / max(1, done - first) / 60
            print(f"{title}: {unit} {done}/{total}{note}, about {left:.0f} min left", file=sys.stderr)

    return show
