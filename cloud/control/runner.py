"""Sees rounds through: gives each process its lease, sees how it ended, starts the round again or gives it up.

A process may die at any moment: finished stages stand in the index, and the next try goes on after them, under a lease
of its own. One that hangs is told by its heartbeat, which stands still, and killed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog

from culling.cloud.control.child import named
from culling.cloud.control.executor import End, Executor
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, Round, Rounds
from culling.common.clock import Clock
from culling.common.errors import StorageError

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""Long enough that a process that dies at once does not keep a core busy, short enough that a round hardly waits."""

MAX_HINDERED = 20
"""Tries in a row that could not read or write: with `RETRY_S` between them, minutes in which to free a full disk."""

MAX_STALLS = 2
"""A lost network file or a driver may come back for one more try; one that hangs twice keeps other cameras waiting."""

NOT_CRASHED = (STOPPED, StorageError.exit_code)
"""Exit codes of a process that did not crash: it was stopped, or the disk is full."""

CURE = "see the kernel's log; lower round.batch or student.long_side"


@dataclass
class _Tries:
    stalls: int = 0
    hindered: int = 0
    next_start: float = 0.0
    cancelled: bool = False


class Runner:
    """The rounds that run, and those that are to be started again. Used by one thread."""

    def __init__(self, executor: Executor, rounds: Rounds, clock: Clock, stall_s: float) -> None:
        self._executor = executor
        self._rounds = rounds
        self._clock = clock
        self._stall_s = stall_s
        self._tries: dict[int, _Tries] = {}

    @property
    def running(self) -> frozenset[int]:
        """The rounds that processes work on."""
        return self._executor.running

    @property
    def parallel(self) -> int:
        """How many rounds may run at once."""
        return self._executor.parallel

    def start(self, turn: Round) -> None:
        """Start the process of a round; do nothing while it has one, or its last one has only just died, or as many
        run as may.

        Raises StorageError when there can be no process.
        """
        tries = self._tries.setdefault(turn.id, _Tries())
        if turn.id in self.running or len(self.running) >= self.parallel:
            return
        if self._clock.monotonic() < tries.next_start:
            return
        tries.cancelled = False
        self._executor.start(turn.id, self._rounds.lease(turn.id))

    def stop_ended(self, unfinished: Collection[int]) -> None:
        """Tell each process to stop, once, whose round is over without it, since its camera was removed."""
        for round_id in self.running - set(unfinished):
            if not self._tries[round_id].cancelled:
                self._tries[round_id].cancelled = True
                self._executor.cancel(round_id)

    def kill_stalled(self) -> list[Round]:
        """Kill the processes that hang; return the round of each, once."""
        stalled = []
        for round_id, where in self._executor.kill_stalled():
            turn = self._rounds.get(round_id)
            log.error("round_process_stalled", round=turn.id, camera=turn.camera, where=where, stall_s=self._stall_s)
            stalled.append(turn)
        return stalled

    def collect(self) -> Iterator[Round]:
        """Yield each round whose process ended since the last call, as it stands now.

        It is still `running` if the process died and is to be started again, `failed` once that was tried too often.
        """
        for end in self._executor.poll():
            self._rounds.leave(end.round_id, end.lease)
            turn = self._rounds.get(end.round_id)
            if turn.state == "running":
                self._try_again(turn, end)
                turn = self._rounds.get(end.round_id)
            if turn.state != "running":
                self._tries.pop(turn.id, None)
            yield turn

    def gave_up(self, turn: Round, end: End) -> str:
        """Count how a round's process ended; return why it is not started again, or "" if it is."""
        tries = self._tries.setdefault(turn.id, _Tries())
        tries.stalls += end.hung
        if end.hung and tries.stalls >= MAX_STALLS:
            return f"its process hung {MAX_STALLS} times for {self._stall_s:g} s, last {end.where}"
        tries.hindered = tries.hindered + 1 if end.code == StorageError.exit_code else 0
        if tries.hindered >= MAX_HINDERED:  # other cameras wait for it
            return f"its process could not read or write {MAX_HINDERED} times in a row: see the service's log"
        if end.code not in NOT_CRASHED and self._rounds.crashed(turn.id) >= MAX_CRASHES:
            return f"its process died {MAX_CRASHES} times, last {_how(end)}"
        return ""

    def stop(self) -> None:
        """End the processes that work; their rounds go on at the next start."""
        for round_id, lease in self._executor.stop():
            with suppress(StorageError):  # the next start counts it as a crash, of which a round may have some
                self._rounds.leave(round_id, lease)

    def _try_again(self, turn: Round, end: End) -> None:
        self._tries[turn.id].next_start = self._clock.monotonic() + RETRY_S
        if not self._rounds.holds(turn.id, end.lease):
            log.warning("round_taken_over", round=turn.id, camera=turn.camera, exit_code=end.code)
            return
        log.error("round_process_died", round=turn.id, camera=turn.camera, exit_code=end.code, how=_how(end))
        if reason := self.gave_up(turn, end):
            self._rounds.end(turn.id, "failed", {}, reason, self._clock.now())


def _how(end: End) -> str:
    return f"killed, since it hung {end.where}" if end.hung else named(end.code, CURE)
