"""Keeps the worker that labels running while there is something to label, and starts it again when it died.

It is started by the first frame that may be labelled and then stays, with the teacher in memory. Which frames it labels
is its own business (`labelling/queue.py`); one that dies or hangs loses no label, so that nothing has to be cleaned up.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from culling.cloud.control.child import Child, named
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.state import FOLDER, read_problem, say_problem
from culling.common.clock import Clock
from culling.common.errors import ModelError, StorageError

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""Before a worker that died is started again; doubled for each one that dies after it, up to `LONGEST_S`."""

LONGEST_S = 300.0
"""A teacher that cannot be loaded is tried again this often: somebody may have repaired its file."""

LOOK_S = 2.0
"""How often it is asked whether something waits, while no worker runs."""

LIVED_S = 60.0
"""A worker that lived so long, and labels: its death says nothing of the one before."""

SAID = (ModelError.exit_code, StorageError.exit_code)
"""Exit codes of a worker that has said itself what is wrong."""

CURE = "see the kernel's log; lower teacher.batch or teacher.short_side"


class LabellerProcess:
    """At most one worker; `settings` is the file of its settings, in the data folder. Used by one thread.

    A worker whose heartbeat has not changed for `stall_s` seconds hangs, and is replaced. One that is `standing` runs
    whether or not a frame waits, since an edge that asks does not wait until it has started.
    """

    def __init__(self, settings: Path, queue: LabelQueue, clock: Clock, stall_s: float, standing: bool = False) -> None:
        self._settings = settings
        self._data_dir = settings.parent
        self._queue = queue
        self._clock = clock
        self._child = Child(clock, stall_s)
        self._standing = standing
        self._died = 0
        self._next_look = self._started = 0.0
        say_problem(self._data_dir, "")  # that of a service that is over

    @property
    def busy(self) -> bool:
        """Whether a worker runs."""
        return self._child.busy

    @property
    def problem(self) -> str:
        """Why nothing is labelled, "" where all is well."""
        return read_problem(self._data_dir)

    def tend(self) -> bool:
        """Start a worker where one is needed; return whether one died or was killed since the last call.

        Raises StorageError.
        """
        if self._child.kill_stalled():
            log.error("labelling_stalled")
        now = self._clock.monotonic()
        if self._died and self._child.busy and now - self._started >= LIVED_S and not self.problem:
            self._died = 0  # the worker says itself that all is well, once it has labelled
        ended = self._child.collect()
        if ended is not None:
            self._note_death(ended, now)
        if not self._child.busy and now >= self._next_look:
            self._next_look = now + LOOK_S
            if self._standing or self._queue.open:
                self._child.start("culling.cloud.labelling", self._settings, self._data_dir / FOLDER)
                self._started = now
        return ended is not None

    def terminate(self) -> None:
        """Tell the worker, if one runs, to end, so that `stop` has less to wait for."""
        self._child.terminate()

    def stop(self) -> None:
        """End the worker, if one runs. What it held is as if it had never had it."""
        if self._child.stop():
            with suppress(StorageError):  # then its lease runs out
                self._queue.give_back()

    def _note_death(self, code: int, now: float) -> None:
        self._died += 1
        self._next_look = now + min(LONGEST_S, RETRY_S * 2 ** (self._died - 1))
        how = "killed, since it hung" if self._child.killed else named(code, CURE)
        log.error("labelling_died", exit_code=code, how=how, times=self._died)
        if self._died > 1 and not (code in SAID and self.problem):
            say_problem(self._data_dir, f"the process that labels died {self._died} times in a row, last {how}")
