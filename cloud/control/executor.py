"""Runs the process of a round: starts it, sees how it ended, starts it again or gives it up, and stops it.

A round works in a process of its own (ADR 0004), so that a crash in a model or a decoder costs nothing but that try.
The process may die at any moment: finished stages stand in the index, and the next try goes on after them. One that
hangs is told by its heartbeat, which stands still, and killed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from culling.cloud.control.child import Child, named
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, UNFINISHED, Round, Rounds
from culling.common.clock import Clock
from culling.common.errors import StorageError

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""Long enough that a process that dies at once does not keep a core busy, short enough that a round hardly waits."""

MAX_HINDERED = 20
"""Tries in a row that could not read or write: with `RETRY_S` between them, minutes in which to free a full disk."""

MAX_STALLS = 2
"""A lost network file or a driver may come back for one more try; one that hangs twice keeps every camera waiting."""

NOT_CRASHED = (STOPPED, StorageError.exit_code)
"""Exit codes of a process that did not crash: it was stopped, or the disk is full."""

CURE = "see the kernel's log; lower round.batch or student.long_side"


class Executor:
    """At most one round's process at a time; `settings` is the file of its settings, in the data folder.

    A process whose heartbeat has not changed for `stall_s` seconds hangs. Used by one thread.
    """

    def __init__(self, settings: Path, rounds: Rounds, clock: Clock, stall_s: float) -> None:
        self._settings = settings
        self._rounds = rounds
        self._clock = clock
        self._stall_s = stall_s
        self._child = Child(clock, stall_s)
        self._round_id = 0
        self._told = False
        self._stalls = (0, 0)
        self._hindered = (0, 0)
        self._next_start = 0.0

    @property
    def busy(self) -> bool:
        """Whether a process is working."""
        return self._child.busy

    def start(self, turn: Round) -> None:
        """Start the process of a round, or do nothing while its last one has only just died.

        Raises StorageError when there can be no process.
        """
        if self._clock.monotonic() < self._next_start:
            return
        folder = self._settings.parent / "rounds" / str(turn.id)
        self._child.start("culling.cloud.round", self._settings, folder, [str(turn.id)])
        self._round_id, self._told = turn.id, False

    def stop_ended(self) -> None:
        """Tell the process to stop whose round is over without it, since its camera was removed; once."""
        if not self.busy or self._told or self._rounds.get(self._round_id).state in UNFINISHED:
            return
        self._told = True
        self._child.terminate()

    def kill_stalled(self) -> Round | None:
        """Kill the process that works if it hangs; return its round then, once."""
        if not self._child.kill_stalled():
            return None
        turn = self._rounds.get(self._round_id)
        log.error(
            "round_process_stalled", round=turn.id, camera=turn.camera, where=self._where(), stall_s=self._stall_s
        )
        return turn

    def collect(self) -> Round | None:
        """Return the round whose process ended since the last call, as it stands now; None if none did.

        It is still `running` if the process died and is to be started again, `failed` once that was tried too often.
        """
        if (code := self._child.collect()) is None:
            return None
        self._rounds.leave(self._round_id)
        turn = self._rounds.get(self._round_id)
        if turn.state == "running":
            self._next_start = self._clock.monotonic() + RETRY_S
            log.error("round_process_died", round=turn.id, camera=turn.camera, exit_code=code, how=self._how(code))
            if reason := self.gave_up(turn, code):
                self._rounds.end(turn.id, "failed", {}, reason, self._clock.now())
        return self._rounds.get(turn.id)

    def gave_up(self, turn: Round, code: int) -> str:
        """Count how a round's process ended; return why it is not started again, or "" if it is."""
        if self._child.killed:
            last, times = self._stalls
            self._stalls = (turn.id, times + 1 if last == turn.id else 1)
            if self._stalls[1] >= MAX_STALLS:
                return f"its process hung {MAX_STALLS} times for {self._stall_s:g} s, last {self._where()}"
        last, times = self._hindered
        self._hindered = (turn.id, 0 if code != StorageError.exit_code else times + 1 if last == turn.id else 1)
        if self._hindered[1] >= MAX_HINDERED:  # other cameras wait for it
            return f"its process could not read or write {MAX_HINDERED} times in a row: see the service's log"
        if code not in NOT_CRASHED and self._rounds.crashed(turn.id) >= MAX_CRASHES:
            return f"its process died {MAX_CRASHES} times, last {self._how(code)}"
        return ""

    def stop(self) -> None:
        """End the process that is working, if any; its round goes on at the next start."""
        if self._child.stop():
            with suppress(StorageError):  # the next start counts it as a crash, of which a round may have some
                self._rounds.leave(self._round_id)

    def _how(self, code: int) -> str:
        return f"killed, since it hung {self._where()}" if self._child.killed else named(code, CURE)

    def _where(self) -> str:
        beat = self._child.beat
        if beat is None or not beat.stage:
            return "before its first stage"
        return f"in stage {beat.stage}" + (f", step {beat.step} of {beat.steps}" if beat.steps else "")
