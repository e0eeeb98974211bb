"""Processes of `culling` that need not import what they are made of: they are forked from one that did, side by side.

Each is a process of its own, with its own id, signals, files and end; what it is spared is the one or two seconds of
CPU in which a new interpreter imports the libraries, before which none of these tests does anything. How a bare
interpreter starts is for those tests to say that start one (`whole`).
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED: dict[str, tuple[str, ...]] = {
    "whole": (),  # it only starts new interpreters
    "cloud": ("culling.cloud.cli",),
    # All that `culling.edge.cli` brings but onnxruntime, which has a thread as soon as it is imported.
    "edge": ("culling.edge.settings", "culling.common.wire.transport", "av", "numpy", "onnx", "zmq"),
}
"""What the first process of each side has imported; it must have no thread but its own."""

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
WIDTH = 12
"""Bytes of a number that is told."""


class Child:
    """A process that `start` started, to be used as a `subprocess.Popen`; `told` is a pipe that tells how it ended."""

    def __init__(self, pid: int, told: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired("culling", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            line = select.poll()  # `select` takes no file beyond the 1024th
            line.register(self._told, select.POLLIN)
            if line.poll(None if timeout is None else 1000 * timeout):
                self.returncode = int(os.read(self._told, WIDTH))
                os.close(self._told)
        return self.returncode


def start(arguments: Sequence[str], log: Path, folder: Path | None = None, whole: bool = False) -> Child:
    """Start `culling` with these arguments, of which the first names the side; what it says is added to `log`.

    It works in `folder`, by default that of this process. One that is `whole` imports everything itself.
    """
    nursery = _nursery("whole" if whole else arguments[0])
    environment = {**os.environ, **ONE_THREAD}
    place = str(folder or Path.cwd())
    wanted = {"arguments": list(arguments), "environment": environment, "folder": place, "whole": whole}
    told, tell = os.pipe()
    with log.open("ab") as said:
        socket.send_fds(nursery, [json.dumps(wanted).encode()], [said.fileno(), tell])
    os.close(tell)
    pid = int(os.read(told, WIDTH))
    return Child(pid, told)


@cache
def _nursery(side: str) -> socket.socket:
    """Return the line to the first process of that side, which ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "support.nursery", str(theirs.fileno()), side]
    path = f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment)
    theirs.close()
    atexit.register(_end, ours, process)
    return ours


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    ours.close()
    process.wait()


# In the first process of a side


def _serve(line: socket.socket) -> int:
    """Start what is asked for until the other end goes; in each process that was started, return its exit code."""
    while True:
        wanted, files, _, _ = socket.recv_fds(line, 1 << 20, 2)
        _reap()
        if not wanted:
            return 0
        if os.fork() == 0:
            line.close()
            return _watch(json.loads(wanted), *files)
        for file in files:
            os.close(file)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(wanted: dict[str, Any], log: int, tell: int) -> int:
    """Tell the id of the process that is wanted, and how it ended; in that process, return its exit code."""
    if (pid := os.fork()) == 0:
        os.close(tell)
        return _be(wanted, log)
    os.write(tell, b"%*d" % (WIDTH, pid))
    _, status = os.waitpid(pid, 0)
    os.write(tell, b"%*d" % (WIDTH, os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _be(wanted: dict[str, Any], log: int) -> int:
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    if wanted["whole"]:
        os.execv(sys.executable, [sys.executable, "-m", "culling.common.cli", *wanted["arguments"]])
    sys.argv = ["culling", *wanted["arguments"]]
    from culling.common.cli import main

    return main(wanted["arguments"])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in IMPORTED[sys.argv[2]]:
        importlib.import_module(name)
    if sys.argv[2] != "whole":
        importlib.import_module("culling.common.cli").commands()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose its threads"
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
