"""A cluster of Ray of the tests' own: one head on this machine, small, with a token, and gone with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from support.children import die_with_parent
from support.site import free_port

SMALL = ("--num-cpus=2", "--object-store-memory=80000000", "--include-dashboard=false", "--include-log-monitor=false")
PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0", "--disable-usage-stats")


class RayHead:
    """A head with two cores; without a `token` it lets everybody in. Skips the test where Ray is not installed."""

    def __init__(self, token: bool = True) -> None:
        if find_spec("ray") is None:
            pytest.skip("Ray is not installed: `pip install 'culling[ray]'`")
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # its sockets' paths must be short
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self._asks = token
        self.address = f"127.0.0.1:{free_port()}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes work."""
        script = Path(sys.executable).parent / "ray"
        at = [f"--port={self.address.split(':')[1]}", "--node-ip-address=127.0.0.1", f"--temp-dir={self._folder}"]
        mode = {**(self.environment if self._asks else {"RAY_AUTH_MODE": "disabled"}), "RAY_worker_niceness": "0"}
        found = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
        with (self._folder / "head.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, script, "start", "--head", "--block", *at, *SMALL, *PORTS],
                stdout=log,
                stderr=log,
                env={**found, "PATH": "/usr/bin:/bin", "HOME": str(self._folder), **mode},
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in (told := (self._folder / "head.log").read_text()):
            assert self._process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)

    def kill(self) -> None:
        """End it, and all that runs in it, as a power cut would."""
        head = psutil.Process(self._process.pid)
        for process in (*head.children(recursive=True), head):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
