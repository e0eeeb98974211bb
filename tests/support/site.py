"""A whole edge site in one folder: keys, settings, a tiny installed student; and the cloud's end of its link."""

from __future__ import annotations

import base64
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.wire.messages import Ack, FromCloud, HardFrame, Heartbeat, Hello, Message, Welcome, pack, unpack
from culling.common.wire.transport import CloudSocket, new_keypair
from support import tiny
from support.nursery import Child, start
from support.waiting import LONG_S

CAMERA = "gate"


class CloudEnd:
    """What a test plays the cloud with: welcomes, and acks what it is told to."""

    def __init__(self, endpoint: str, secret_key: str, edge_key: str) -> None:
        self.socket = CloudSocket(endpoint, secret_key, lambda key: key == edge_key)
        self.endpoint = self.socket.endpoint
        self.edge_key = edge_key
        self.answers = True
        self.verdicts = False
        self.window = 8
        self.seen: list[tuple[Message, bytes | None]] = []

    def send(self, message: FromCloud, payload: bytes | None = None) -> None:
        assert self.socket.send(self.edge_key, pack(message, payload))

    def receive(self, kind: type[Any], within_s: float = LONG_S, ack: bool = True) -> tuple[Any, bytes | None]:
        """Return the next message of that kind; meanwhile welcome, and ack frames if `ack`."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for message, payload in self.turn(ack=ack):
                if isinstance(message, kind):
                    return message, payload
        got = [type(seen).__name__ for seen, _ in self.seen]
        raise AssertionError(f"no {kind.__name__} within {within_s} s; got {got}")

    def turn(self, ack: bool = True, timeout_s: float = 0.1) -> Iterator[tuple[Message, bytes | None]]:
        """Take at most one message."""
        if (received := self.socket.poll(timeout_s)) is None:
            return
        key, parts = received
        assert key == self.edge_key
        message, payload = unpack(parts, "edge")
        self.seen.append((message, payload))
        if isinstance(message, (Hello, Heartbeat)) and self.answers:
            told = Welcome("test", window=self.window, verdicts=self.verdicts)
            self.socket.send(key, pack(told))  # in vain after an edge's last words
        if isinstance(message, HardFrame) and ack:
            answer = Ack(message.boot, message.seq, window=self.window)
            self.socket.send(key, pack(answer))  # in vain when it was killed since
        yield message, payload

    def close(self) -> None:
        self.socket.close()


class Site:
    """An edge's folder; `settings` is its TOML as a dict, to be changed before `write`."""

    def __init__(self, folder: Path, cloud_endpoint: str = "tcp://127.0.0.1:1") -> None:
        self.folder = folder
        self.signing = Ed25519PrivateKey.generate()
        self.server_public, self.server_secret = new_keypair()
        self.public, self.secret = new_keypair()
        self.processes: list[Child] = []
        self.settings: dict[str, Any] = {
            "agent": {"state_dir": str(folder / "state"), "allow_cpu": True, "threads": 1, "drain_s": 5.0},
            "cloud": {
                "endpoint": cloud_endpoint,
                "server_key": self.server_public,
                "secret_key": self.secret,
                "signing_keys": [base64.b64encode(self.signing.public_key().public_bytes_raw()).decode()],
                "heartbeat_s": 0.5,
            },
            "camera": [{"name": CAMERA, "url": str(folder / "clip.mp4")}],
            "metrics": {"port": 0},
        }

    def cloud(self) -> CloudEnd:
        """Open the cloud's end, and point the settings at it."""
        cloud = CloudEnd("tcp://127.0.0.1:0", self.server_secret, self.public)
        self.settings["cloud"]["endpoint"] = cloud.endpoint
        return cloud

    def install_student(self, camera: str = CAMERA, **changes: Any) -> tiny.Shipped:
        """Lay a student with its manifest beside the settings, as counter 1."""
        shipped = self.ship(tiny.student(**changes), camera=camera)
        (self.folder / "initial.onnx").write_bytes(shipped.model)
        (self.folder / f"initial.{camera}.manifest").write_bytes(shipped.signed)
        self.settings["student"] = {"initial": str(self.folder / "initial.onnx")}
        return shipped

    def ship(self, model: bytes, **named: Any) -> tiny.Shipped:
        return tiny.ship(model, self.signing, **{"camera": CAMERA, "now": time.time(), **named})

    def write(self, mode: int = 0o600) -> Path:
        """Write `edge.toml` and return its path."""
        path = self.folder / "edge.toml"
        path.write_text(tomli_w.dumps(self.settings))
        path.chmod(mode)
        return path

    def start(self, whole: bool = False) -> Child:
        """Start a real agent process, `whole` from the bare interpreter on; its log goes to `agent.log`."""
        process = start(["edge", "run", "--config", str(self.write())], self.folder / "agent.log", whole=whole)
        self.processes.append(process)
        return process

    def log(self) -> str:
        """Return what all agents of this site have logged."""
        return (self.folder / "agent.log").read_text()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(LONG_S)


def moving_clip(path: Path, frames: int = 100, width: int = 160, height: int = 128) -> None:
    """Write a clip in which the cells of `tiny.picture` wander, so that no two frames look alike."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10", "preset": "ultrafast"}
        for number in range(frames):
            rgb = np.roll(tiny.picture(width, height), 3 * number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on, and that no other worker is given.

    It is none of those that the system hands out, nor of Ray's: whoever connects anywhere could have it meanwhile.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw15").removeprefix("gw")) % 16
    while True:
        port = 20_000 + (16 * next(_PORTS) + worker) % 12_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_PORTS = count(os.getpid())
