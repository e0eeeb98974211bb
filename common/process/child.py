"""What a child process of a service does first: it stops when told or left alone, and dies first of all."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

DIES_FIRST = 500
"""Of 1000: well before a service at 0, not before what somebody marked as worth even less."""


_PR_SET_PDEATHSIG = 1


def stop_when_told(watch_stdin: bool) -> threading.Event:
    """Return an event that SIGTERM and SIGINT set, and with `watch_stdin` the end of standard input too.

    Standard input ends when the service dies that started the process.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if watch_stdin:
        threading.Thread(target=_watch_stdin, args=(stopping,), name="watch-stdin", daemon=True).start()
    return stopping


def die_first() -> None:
    """Have the kernel end this process, not the service that takes frames, where memory runs out."""
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):  # there may be no such file, or it may not be written
        score.write_text(str(max(DIES_FIRST, int(score.read_text()))))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however it does: a hung one sees no word."""
    with suppress(OSError, AttributeError):  # Linux alone can
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_stdin(stopping: threading.Event) -> None:
    # Not sys.stdin.read: the interpreter cannot exit while another thread holds the lock of that buffer.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stopping.set()
