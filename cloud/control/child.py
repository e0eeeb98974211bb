"""One child process of the service: started, watched by its heartbeat, stopped. What its end means, others know."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from culling.cloud.round.progress import Progress, read_progress
from culling.common.clock import Clock
from culling.common.config import PREFIX
from culling.common.errors import StorageError

STOP_S = 7.0
"""A process that has not ended so long after it was told to is killed: the whole service ends within ten seconds."""


class Child:
    """At most one process at a time. One whose heartbeat has not changed for `stall_s` seconds hangs.

    `killed` tells whether the latest was killed for that, `beat` how far it had come. Used by one thread.
    """

    def __init__(self, clock: Clock, stall_s: float) -> None:
        self.killed = False
        self.beat: Progress | None = None
        self._clock = clock
        self._stall_s = stall_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._moved = 0.0
        self._told: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a process is working."""
        return self._process is not None and self._process.poll() is None

    def start(self, module: str, settings: Path, folder: Path, arguments: Sequence[str] = ()) -> None:
        """Start `python -m module` with a file of settings; its heartbeat is in `folder`. Raises StorageError."""
        command = [sys.executable, "-m", module, "--config", str(settings), "--watch-stdin", *arguments]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment())
        except OSError as error:
            raise StorageError(f"cannot start a process of {module}: {error.strerror}") from error
        self._folder, self._told = folder, None
        self.killed, self._moved, self.beat = False, self._clock.monotonic(), read_progress(folder)

    def kill_stalled(self) -> bool:
        """Kill the process that works if it hangs; return whether it did, once."""
        if self._process is None or self.killed:
            return False
        now, beat = self._clock.monotonic(), read_progress(self._folder)
        if beat != self.beat:
            self.beat, self._moved = beat, now
        if now - self._moved < self._stall_s:
            return False
        self.killed = True
        self._process.kill()
        return True

    def terminate(self) -> None:
        """Tell the process that works, if any, to end."""
        if self._process is not None and self._told is None:
            self._told = time.monotonic()
            self._process.terminate()

    def collect(self) -> int | None:
        """Return the exit code of the process that ended since the last call; None if none did."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._forget()
        return code

    def stop(self) -> bool:
        """End the process that is working; return whether there was one that had not been collected."""
        if self._process is None:
            return False
        self.terminate()
        assert self._told is not None
        try:
            self._process.wait(max(0.0, STOP_S - (time.monotonic() - self._told)))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()
        return True

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def named(code: int, cure: str) -> str:
    """Return in words how a process ended; where it was killed, `cure` is what to do for want of memory."""
    return f"killed, perhaps for lack of memory: {cure}" if code == -signal.SIGKILL else f"with exit code {code}"


def environment() -> dict[str, str]:
    """Return the environment without settings: a child's are in its file, and variables would beat a `--set`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
