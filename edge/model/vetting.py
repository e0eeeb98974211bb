"""The first run of a model from the network: in a child process with limits on memory, time and disk.

Structure alone does not show whether a graph ends, or how much it allocates; so the child loads it and runs it on blank
frames of the expected sizes, and dies of its limits instead of the agent. It always runs on the CPU.

The child first tries in the time that the cameras leave idle, and takes some of theirs only if that was too little: a
child that was only nice delayed frames more.

A child that was ended from outside (a stop of the whole unit, the kernel short of memory) says nothing about its model.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from culling.common.errors import CullingError, ModelError

OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that end a child from outside; its own limits and crashes send others."""
PR_SET_PDEATHSIG = 1
NICE = 10
"""Below the cameras, yet not the least: a child that gets no time at all would fail its model by the clock."""


class NotVettedError(CullingError):
    """The run was interrupted from outside, or could not begin: try again later."""


@dataclass(frozen=True)
class Limits:
    """What the child may use: bytes of address space, seconds of CPU, and `wall_s` seconds in all.

    Before that it may try for `idle_s` seconds in idle time only.
    """

    memory: int = 4 << 30
    cpu_s: int = 60
    wall_s: float = 180.0
    idle_s: float = 5.0


def vet(model: Path, sizes: Sequence[tuple[int, int]], limits: Limits | None = None) -> None:
    """Raise ModelError unless a child can load `model` and run it at every `(height, width)` within `limits`.

    Raises NotVettedError when the run gave no answer.
    """
    limits = limits or Limits()
    with suppress(subprocess.TimeoutExpired):
        return _judge(model, _run(model, sizes, limits, idle=True))
    try:
        child = _run(model, sizes, limits, idle=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"model {model.stem} did not answer a blank frame within {limits.wall_s:g} s") from None
    return _judge(model, child)


def _run(
    model: Path, sizes: Sequence[tuple[int, int]], limits: Limits, idle: bool
) -> subprocess.CompletedProcess[bytes]:
    numbers = [str(number) for number in (os.getpid(), limits.memory, limits.cpu_s)]
    shapes = [f"{height}x{width}" for height, width in sizes]
    manner = "idle" if idle else "nice"
    command = [sys.executable, "-m", "culling.edge.model.vetting", *numbers, manner, str(model), *shapes]
    # The child runs untrusted bytes: it gets no settings, and one thread.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CULLING_")}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limits.idle_s if idle else limits.wall_s,
            # Ctrl-C is meant for the agent, so the child gets its own process group. It gets no session of its own:
            # in its own scheduling group, nice or idle would yield nothing to the agent.
            process_group=0,
        )
    except OSError as error:
        raise NotVettedError(f"model {model.stem} cannot be vetted now: {error.strerror}") from error


def _judge(model: Path, child: subprocess.CompletedProcess[bytes]) -> None:
    if -child.returncode in OUTSIDE:
        name = signal.Signals(-child.returncode).name
        raise NotVettedError(f"the process that vetted model {model.stem} was ended from outside, by {name}")
    if child.returncode == ModelError.exit_code:
        raise ModelError(child.stderr.decode(errors="replace").strip()[:300])
    if child.returncode:
        raise ModelError(f"model {model.stem} crashed the process that vetted it (status {child.returncode})")


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the agent died before the call
        raise SystemExit(1)


def _confine(memory: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # The soft limit sends SIGXCPU; the hard one would send SIGKILL, which looks like an end from outside.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)


def _step_back() -> None:
    with suppress(OSError):  # where that is not permitted, the child is still nice
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _try(model: Path, shapes: Sequence[str]) -> None:
    from culling.common.graph import open_graph

    graph = open_graph(model.read_bytes(), provider="cpu", threads=1)
    for shape in shapes:
        height, width = shape.split("x")
        graph.warm(1, int(height), int(width))


def main(arguments: Sequence[str]) -> int:
    """Try `PARENT MEMORY CPU_S idle|nice MODEL HxW…`; returns 0 if it runs, 5 with a line on stderr if it must not."""
    parent, memory, cpu_s, manner, model, *shapes = arguments
    _die_with(int(parent))
    _confine(int(memory), int(cpu_s))
    if manner == "idle":
        _step_back()
    try:
        _try(Path(model), shapes)
    except (ModelError, MemoryError) as error:
        print(error if isinstance(error, ModelError) else "the model needs too much memory", file=sys.stderr)
        return ModelError.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
