"""How far a long command is: a bar on a terminal, else a plain line now and then; or a line for each of its steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINES = 20
"""Plain lines that a whole run prints: enough to follow it, few enough for a log."""

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


def _plain(title: str, unit: str, total: int) -> Show:
    every, last = max(1, total // LINES), 0
    start: tuple[int, float] | None = None

    def show(done: int, note: str) -> None:
        nonlocal last, start
        now = time.monotonic()
        start = start or (done, now)  # a resumed run begins in the middle, and its pace is measured from there
        if done // every > last // every or done == total:
            pace = (now - start[1]) / max(1, done - start[0])
            print(
                f"{title}: {unit} {done}/{total}{note}, about {(total - done) * pace / 60:.0f} min left",
                file=sys.stderr,
            )
        last = done

    return show
