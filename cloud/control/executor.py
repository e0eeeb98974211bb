"""Where rounds run: each in a process of its own (ADR 0004), several at once, on this machine or in a cluster of Ray.

It starts processes, tells how they ended and kills those that hang; what follows from that, `runner.py` decides. For
`ray` the process is one that has the cluster do the work (`ray.py`): it is watched, stopped and killed like the other,
and whatever happens to Ray ends that process alone, never the service.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from culling.cloud.control.child import Child, environment
from culling.cloud.settings import CloudSettings, to_toml
from culling.common.atomic import write_atomic
from culling.common.clock import Clock
from culling.common.errors import MissingExtraError, SettingsError

CHECK_S = 60.0
"""A cluster that has let nobody in for so long does not answer; control waits no longer before it starts."""

MODULES = {"local": "culling.cloud.round", "ray": "culling.cloud.control.ray"}


@dataclass(frozen=True)
class End:
    """How the process of a round ended: its exit code, whether it was killed because it hung, and how far it was."""

    round_id: int
    lease: str
    code: int
    hung: bool
    where: str


class Executor:
    """The processes of rounds; `settings` is the file of their settings, in the data folder. Used by one thread.

    A process whose heartbeat has not changed for `round.stall_s` seconds hangs.
    """

    def __init__(self, path: Path, settings: CloudSettings, clock: Clock) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._children: dict[int, tuple[str, Child]] = {}

    @property
    def parallel(self) -> int:
        """How many rounds may run at once."""
        return self._settings.executor.parallel

    @property
    def running(self) -> frozenset[int]:
        """The rounds whose processes were started, and whose ends were not polled yet."""
        return frozenset(self._children)

    def start(self, round_id: int, lease: str) -> None:
        """Start the process of a round, which works under a lease. Raises StorageError when there can be no process."""
        child = Child(self._clock, self._settings.round.stall_s)
        folder = self._path.parent / "rounds" / str(round_id)
        arguments = ["--lease", lease, *self._share(), str(round_id)]
        child.start(MODULES[self._settings.executor.kind], self._path, folder, arguments)
        self._children[round_id] = (lease, child)

    def poll(self) -> Iterator[End]:
        """Yield how each process ended that did since the last call."""
        for round_id, (lease, child) in list(self._children.items()):
            if (code := child.collect()) is not None:
                del self._children[round_id]
                yield End(round_id, lease, code, child.killed, where(child))

    def kill_stalled(self) -> list[tuple[int, str]]:
        """Kill the processes that hang; return the round of each and where it hung, once."""
        return [(round_id, where(child)) for round_id, (_, child) in self._children.items() if child.kill_stalled()]

    def cancel(self, round_id: int) -> None:
        """Tell the process of a round to stop, if there is one; `poll` tells when it has."""
        if round_id in self._children:
            self._children[round_id][1].terminate()

    def stop(self) -> list[tuple[int, str]]:
        """End every process; return the rounds that they worked on, and their leases."""
        for _, child in self._children.values():
            child.terminate()
        ended = [(round_id, lease) for round_id, (lease, child) in self._children.items() if child.stop()]
        self._children.clear()
        return ended

    def _share(self) -> Sequence[str]:
        """Return what has rounds that run at once divide this machine; Ray divides a cluster itself."""
        if self._settings.executor.kind != "local" or self.parallel == 1:
            return ()
        threads = max(1, (self._settings.round.threads or os.cpu_count() or 1) // self.parallel)
        return "--threads", str(threads), "--gpu-share", f"{1 / self.parallel:.3f}"


def write_settings(settings: CloudSettings) -> Path:
    """Write the file of settings that processes of rounds and labels read, in the data folder; return it."""
    path = settings.data_dir / "round.toml"
    write_atomic(path, to_toml(settings), mode=0o600)
    return path


def check_executor(path: Path, settings: CloudSettings) -> None:
    """Raise SettingsError where rounds shall run in a cluster of Ray that may not or cannot be used; `path` as above.

    It takes seconds: to be called at a start, and not by one that is elected. A cluster that does not answer may do so
    later: each round looks again.
    """
    if settings.executor.kind != "ray":
        return
    command = [sys.executable, "-m", MODULES["ray"], "--config", str(path), "--check"]
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), text=True, timeout=CHECK_S)
    except subprocess.TimeoutExpired:
        return
    if ended.returncode in (SettingsError.exit_code, MissingExtraError.exit_code):
        raise SettingsError(ended.stdout.strip())


def where(child: Child) -> str:
    """Return in words how far a process came, as its heartbeat says."""
    beat = child.beat
    if beat is None or not beat.stage:
        return "before its first stage"
    return f"in stage {beat.stage}" + (f", step {beat.step} of {beat.steps}" if beat.steps else "")
