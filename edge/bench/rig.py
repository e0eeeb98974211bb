"""What the benches run: a real agent in a folder of its own, and a cloud's end that stores nothing.

The agent is a process of `culling edge run`, installed, keyed and linked like any other; its trace has a line with the
time of each inferred frame.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.config import PREFIX
from culling.common.errors import CullingError, ProtocolError
from culling.common.logs import redact
from culling.common.wire.manifest import sign
from culling.common.wire.messages import Ack, HardFrame, Heartbeat, Hello, Welcome, pack, unpack
from culling.common.wire.transport import CloudSocket, new_keypair
from culling.edge.bench.material import Material
from culling.edge.trace import TraceLine

WINDOW = 32
"""Frames in flight that the cloud's end allows, as the service does by default."""
POLL_S = 0.05
"""How often the trace is read while a bench waits for frames: rarely enough not to disturb the agent."""


class Acker(threading.Thread):
    """A cloud's end that welcomes its one edge and acks every frame at once."""

    def __init__(self, secret: str, edge_key: str) -> None:
        super().__init__(name="acker", daemon=True)
        self._socket = CloudSocket("tcp://127.0.0.1:0", secret, lambda key: key == edge_key)
        self._over = threading.Event()

    @property
    def endpoint(self) -> str:
        """The address that it listens on."""
        return self._socket.endpoint

    def run(self) -> None:
        """Answer until `close`."""
        while not self._over.is_set():
            if (received := self._socket.poll(0.2)) is None:
                continue
            key, parts = received
            with suppress(ProtocolError):
                match unpack(parts, "edge")[0]:
                    case Hello() | Heartbeat():
                        self._socket.send(key, pack(Welcome("bench", WINDOW)))
                    case HardFrame() as frame:
                        self._socket.send(key, pack(Ack(frame.boot, frame.seq, WINDOW)))

    def close(self) -> None:
        """End the thread and free the port."""
        self._over.set()
        self.join()
        self._socket.close()


class AgentProcess:
    """An agent of `cameras` cameras, all of which play `material`; see `running`.

    At the pace "max" each camera plays its first `frames` frames and the agent ends after them; at "real" each plays at
    most `fps` frames a second, in a loop.
    """

    def __init__(
        self,
        folder: Path,
        material: Material,
        cameras: int,
        threads: int,
        pace: Literal["max", "real"],
        frames: int = 0,
        fps: float = 0.0,
        outputs: Sequence[dict[str, Any]] = (),
        view: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._keys = Ed25519PrivateKey.generate()
        self._server_public, self._server_secret = new_keypair()
        self._public, self._secret = new_keypair()
        self._names = [f"camera-{number}" for number in range(cameras)]
        last = min(1.0, frames / material.total) if pace == "max" else 1.0
        played = {"url": str(material.video), "pace": pace, "loop": pace == "real", "last": last, "max_fps": fps}
        self._settings: dict[str, Any] = {
            "agent": {
                "state_dir": str(folder / "state"),
                "allow_cpu": True,
                "threads": threads,
                "log_level": "warning",
                "exit_when_done": pace == "max",
                "trace": str(folder / "trace.jsonl"),
            },
            "student": {"initial": str(folder / "student.onnx")},
            "camera": [{"name": name, **played} for name in self._names],
            "metrics": {"port": 0},
            "output": list(outputs),
            "view": dict(view or {}),
        }
        (folder / "student.onnx").write_bytes(material.model)
        for name in self._names:
            signed = sign(material.manifest(name, 1, material.model), self._keys)
            (folder / f"student.{name}.manifest").write_bytes(signed)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the agent and its cloud's end, yield the agent's process, and end both."""
        acker = Acker(self._server_secret, self._public)
        acker.start()
        try:
            process = self._start(acker.endpoint)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        finally:
            acker.close()

    def finish(self, process: subprocess.Popen[bytes]) -> list[TraceLine]:
        """Wait until the agent has played its files; return its trace. Raises `CullingError` if it failed."""
        if process.wait():
            raise self._failure(process.returncode)
        return self.trace()

    def wait_for(self, frames: int, process: subprocess.Popen[bytes]) -> None:
        """Wait until `frames` frames of each camera have been inferred."""
        while min(self._counts()) < frames:
            if process.poll() is not None:
                raise self._failure(process.returncode)
            time.sleep(POLL_S)

    def trace(self) -> list[TraceLine]:
        """Return a line for every frame inferred so far; those of the last second may be missing."""
        try:
            data = (self._folder / "trace.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]  # the agent may be writing the last one
        return [msgspec.json.decode(line, type=TraceLine) for line in whole.splitlines()]

    def _counts(self) -> list[int]:
        cameras = [line.camera for line in self.trace()]
        return [cameras.count(name) for name in self._names]

    def _start(self, endpoint: str) -> subprocess.Popen[bytes]:
        keys = {"server_key": self._server_public, "secret_key": self._secret}
        signing = base64.b64encode(self._keys.public_key().public_bytes_raw()).decode()
        settings = {**self._settings, "cloud": {"endpoint": endpoint, **keys, "signing_keys": [signing]}}
        toml = self._folder / "edge.toml"
        toml.touch(mode=0o600)
        toml.write_text(tomli_w.dumps(settings))
        command = [sys.executable, "-m", "culling.common.cli", "edge", "run", "--config", str(toml)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with (self._folder / "agent.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def _failure(self, code: int) -> CullingError:
        lines = (self._folder / "agent.log").read_text(errors="replace").strip().splitlines()
        return CullingError(
            redact(f"the agent ended with exit code {code}: {lines[-1] if lines else 'its log is empty'}")
        )
