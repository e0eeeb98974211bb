"""A real S3 server in a process of its own; it can be slow, refuse, be gone, or lose a bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.children import die_with_parent


class S3:
    """A running server; `environment` is what clients have to be told."""

    def __init__(self, folder: Path) -> None:
        self._fault = folder / "fault"
        command = [sys.executable, "-m", "support.s3_server", str(folder)]
        tests = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=folder, env=tests, preexec_fn=die_with_parent
        )
        assert self._process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "edge-of-s3",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
        }

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
        self._process.kill()
        self._process.communicate()

    def _ask(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.address + path, method=method, data=b"")
        with urllib.request.urlopen(request, timeout=30):
            pass
