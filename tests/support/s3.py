"""A real S3 server in a process of its own; it can be slow, refuse, be gone, be killed, or lose a bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.children import die_with_parent


class S3:
    """A running server; `environment` is what clients have to be told.

    One with a `port` keeps what it holds, and may be killed and started again.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder, self._fault = folder, folder / "fault"
        self._port = port
        self.start()
        self.environment = {
            "AWS_ACCESS_KEY_ID": "edge-of-s3",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Start it, and wait until it listens."""
        port = [str(self._port)] if self._port else []
        command = [sys.executable, "-m", "support.s3_server", str(self._folder), *port]
        tests = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=self._folder, env=tests, preexec_fn=die_with_parent
        )
        assert self._process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def pid(self) -> int:
        """Its process, which another start changes."""
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.communicate()

    def waiting(self) -> list[str]:
        """Return the method and path of each request that was done and whose answer was made to wait."""
        told = self._folder / "waiting"
        return told.read_text().splitlines() if told.exists() else []

    def make(self, bucket: str) -> str:
        """Make a bucket; return its URL."""
        self._ask("PUT", f"/{bucket}")
        return f"s3://{bucket}"

    def lose(self) -> None:
        """Remove everything that the server holds: buckets vanish with what is in them."""
        self._ask("POST", "/moto-api/reset")

    def err(self, fault: str) -> None:
        """Have it answer `503`, or wait so many seconds; "" ends that."""
        if fault:
            self._fault.write_text(fault)
        else:
            self._fault.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()

    def _ask(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.address + path, method=method, data=b"")
        with urllib.request.urlopen(request, timeout=30):
            pass
