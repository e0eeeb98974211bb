"""A crowd of edges in one process, a real service for them, and the bare socket and disk that it is compared with.

Every edge is one DEALER with a CURVE key of its own, and keeps as many frames unacknowledged as the window allows; the
same crowd speaks to the service and to a bare ROUTER that answers every message.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import numpy as np
import typer
import zmq
from sqlalchemy import URL

from culling.cloud.settings import CloudSettings, load_settings, to_toml
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.roster import add_edge
from culling.common.config import PREFIX
from culling.common.errors import CullingError
from culling.common.frame import Detections
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import (
    Ack,
    CameraState,
    HardFrame,
    Heartbeat,
    Hello,
    Nack,
    Refused,
    Welcome,
    pack,
    to_wire,
    unpack,
)
from culling.common.wire.transport import Context, new_keypair, public_key

WINDOW = 32
"""Frames in flight per edge, as the service allows by default."""
SILENT_S = 60
"""After which the other end counts as dead; a crowd's handshakes alone take seconds."""
START_S = 60.0
"""How long the service may take to start; on two busy cores its imports take seconds."""
SIDE = 64
"""Pixels of a frame's side: pictures are padded to any size in bytes, so a small one will do."""
BARE_ACK = b"ack"
MEASURED: Mapping[str, Any] = {
    "service.endpoint": "tcp://127.0.0.1:0",
    "service.log_level": "warning",
    "service.window": WINDOW,
    "service.queue_high": 1_000_000,
    "schedule.hold": True,
    "labelling.per_day": 0,
    "metrics.port": 0,
    "page.port": 0,
}
"""Settings of a service that takes frames and does nothing else."""

Parts = list[bytes]
Folder = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="a folder on the disk that is measured",
        show_default="the system's temporary one",
    ),
]


@dataclass(frozen=True)
class Served:
    """A running service: its endpoint, the addresses of its metrics and its page, its public key and process, and its
    edges' secret keys by their first camera.
    """

    endpoint: str
    metrics: str
    page: str
    server_key: str
    pid: int
    secrets: Mapping[str, str]


def no_model(camera: str) -> str:
    """Return the id that a camera without a model says that it runs."""
    return "none"


class Crowd:
    """Edges linked to `endpoints` in turn, of `each` cameras; `secrets` holds their secret keys by their first camera.

    `acked` returns whether a message acks a frame, and raises for a refusal; `runs` the id of the model that a camera
    says it runs.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        server_key: str,
        secrets: Mapping[str, str],
        acked: Callable[[Parts], bool],
        each: int = 1,
        runs: Callable[[str], str] = no_model,
    ) -> None:
        self.cameras = tuple(secrets)
        self._runs = runs
        self._each = each
        self._acked = acked
        self._context: Context = zmq.Context()
        self._context.max_sockets = 4 * len(secrets) + 64
        self._poller = zmq.Poller()
        self._edges = []
        for secret, endpoint in zip(secrets.values(), cycle(endpoints), strict=False):
            socket = self._context.socket(zmq.DEALER)
            socket.linger, socket.sndhwm, socket.rcvhwm = 0, 0, 0
            socket.curve_serverkey = server_key.encode()
            socket.curve_publickey, socket.curve_secretkey = public_key(secret).encode(), secret.encode()
            socket.connect(endpoint)
            self._poller.register(socket, zmq.POLLIN)
            self._edges.append(socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for socket in self._edges:
            socket.close()
        self._context.term()

    def greet(self) -> None:
        """Send a Hello from every edge, and wait until each is answered."""
        for camera, socket in zip(self.cameras, self._edges, strict=True):
            socket.send_multipart(pack(Hello("culling bench", "bench", self._states(camera))))
        silent = set(self._edges)
        while silent:
            silent -= {socket for socket, _ in self._received()}

    def beat(self, place: int) -> float:
        """Send a heartbeat of one edge; return how many seconds passed until it was answered."""
        socket, beat = self._edges[place], Heartbeat("bench", self._states(self.cameras[place]))
        started = time.perf_counter()
        socket.send_multipart(pack(beat))
        answered = False
        while not answered:
            for mine, parts in self._received():
                answered |= mine is socket and isinstance(unpack(parts, "cloud")[0], Welcome)
        return time.perf_counter() - started

    def deliver(self, messages: Sequence[Sequence[Parts]]) -> float:
        """Send the frames of each edge; return how many were acked per second in all. Raises `CullingError`."""
        waiting = {socket: deque(mine) for socket, mine in zip(self._edges, messages, strict=True)}
        left = total = sum(map(len, messages))
        started = time.perf_counter()
        for socket, mine in waiting.items():
            for _ in range(min(WINDOW, len(mine))):
                socket.send_multipart(mine.popleft())
        while left:
            for socket, parts in self._received():
                if self._acked(parts):
                    left -= 1
                    if waiting[socket]:
                        socket.send_multipart(waiting[socket].popleft())
        return total / (time.perf_counter() - started)

    def _states(self, first: str) -> list[CameraState]:
        return [camera_state(camera, model_id=self._runs(camera)) for camera in _cameras_of(first, self._each)]

    def _received(self) -> Iterator[tuple[zmq.Socket[bytes], Parts]]:
        if not (ready := self._poller.poll(1000 * SILENT_S)):
            raise CullingError(f"no message from the other end for {SILENT_S} s")
        for socket, _ in ready:
            while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                yield socket, socket.recv_multipart()


def acked_by_service(parts: Parts) -> bool:
    """Return whether this is the service's ack. Raises `CullingError` for a refusal."""
    message, _ = unpack(parts, "cloud")
    if isinstance(message, Nack | Refused):
        raise CullingError(f"the service refused a frame: {message}")
    return isinstance(message, Ack)


def frames(cameras: Sequence[str], count: int, size: int) -> list[list[Parts]]:
    """Return `count` new frames of `size` bytes as messages, dealt out to `cameras`."""
    dealt: list[list[Parts]] = [[] for _ in cameras]
    picture, boot = encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8)), uuid.uuid4().hex
    for seq in range(count):
        # Decoders ignore bytes after a picture's end: each frame is valid, of the wanted size, and unique.
        jpeg = picture + os.urandom(size - len(picture))
        place = seq % len(cameras)
        dealt[place].append(pack(_frame(cameras[place], boot, seq, jpeg), jpeg))
    return dealt


@contextmanager
def service(
    folder: Path, edges: int, fill: Callable[[Path], None] = lambda index: None, each: int = 1
) -> Iterator[Served]:
    """Run `culling cloud serve` in `folder` with `edges` of `each` cameras, and end it. Raises `CullingError`.

    `fill` is given its index, an SQLite file, before it starts.
    """
    data_dir = folder / "cloud"
    settings = load_settings(None, {**MEASURED, "service.data_dir": data_dir})
    server_key = load_keys(data_dir).curve_public
    secrets = enroll(settings.store_url, edges, each)
    fill(data_dir / "index.sqlite")
    with serving(settings) as (endpoint, pid):
        metrics, page = ((data_dir / name).read_text("utf-8").strip() for name in ("metrics", "page"))
        yield Served(endpoint, metrics, page, server_key, pid, secrets)


@contextmanager
def serving(settings: CloudSettings, *arguments: str) -> Iterator[tuple[str, int]]:
    """Run `culling cloud serve` with `arguments`, and end it; yield its endpoint and process. Raises `CullingError`.

    Settings and log are written beside its data folder.
    """
    folder = settings.data_dir.parent
    toml = folder / "cloud.toml"
    toml.write_bytes(to_toml(settings))
    command = [sys.executable, "-m", "culling.common.cli", "cloud", "serve", *arguments, "--config", str(toml)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield _endpoint(process, settings.data_dir / "endpoint"), process.pid
    finally:
        process.kill()
        process.wait()


def enroll(store_url: str | URL, edges: int, each: int = 1) -> dict[str, str]:
    """Enroll so many edges of `each` cameras; return their secret keys by their first camera."""
    pairs = {f"camera-{each * number}": new_keypair() for number in range(edges)}
    index = Index(store_url)
    with index.write() as connection:
        for camera, (public, _) in pairs.items():
            add_edge(connection, f"edge-of-{camera}", public, _cameras_of(camera, each), time.time())
    index.close()
    return {camera: secret for camera, (_, secret) in pairs.items()}


@contextmanager
def bare_socket() -> Iterator[tuple[str, str]]:
    """Run a process with a CURVE ROUTER that answers each message at once; yield its address and public key."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    public, secret = new_keypair()
    process = context.Process(target=_answer, args=(its, secret), daemon=True)
    process.start()
    try:
        yield str(mine.recv()), public
    finally:
        process.kill()
        process.join()


class BareDisk:
    """An SQLite file in `folder`, written in WAL mode with synchronous=FULL."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE frames (jpeg BLOB NOT NULL)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def commit(self, count: int, size: int) -> float:
        """Commit `count` frames of `size` bytes, one at a time; return how many became durable per second."""
        jpegs = [os.urandom(size) for _ in range(count)]
        started = time.perf_counter()
        for jpeg in jpegs:
            self._db.execute("INSERT INTO frames VALUES (?)", (jpeg,))
        return count / (time.perf_counter() - started)


def _answer(pipe: Connection, secret: str) -> None:
    context: Context = zmq.Context()
    context.max_sockets = 4096
    socket = context.socket(zmq.ROUTER)
    socket.sndhwm = socket.rcvhwm = 0
    socket.curve_server = True
    socket.curve_secretkey = secret.encode()
    socket.bind("tcp://127.0.0.1:0")
    pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    while True:
        route, *_ = socket.recv_multipart()
        socket.send_multipart([route, BARE_ACK])


def _cameras_of(first: str, each: int) -> list[str]:
    number = int(first.removeprefix("camera-"))
    return [f"camera-{number + more}" for more in range(each)]


def _endpoint(process: subprocess.Popen[bytes], path: Path) -> str:
    deadline = time.monotonic() + START_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (path.parents[1] / "service.log").read_text(errors="replace").strip().splitlines()
            raise CullingError(f"the service did not start: {log[-1] if log else 'its log is empty'}")
        time.sleep(0.05)
    return path.read_text("utf-8").strip()


def _frame(camera: str, boot: str, seq: int, jpeg: bytes) -> HardFrame:
    return HardFrame(
        camera=camera,
        boot=boot,
        seq=seq,
        frame=seq,
        pts=float(seq),
        captured=time.time(),
        reason="hard",
        loss=1.0,
        model_id="none",
        width=SIDE,
        height=SIDE,
        sha256=hashlib.sha256(jpeg).hexdigest(),
        detections=to_wire(Detections.empty()),
    )


def camera_state(camera: str, seen: int = 0, model_id: str = "none") -> CameraState:
    """Return what an edge says of a camera that does well."""
    return CameraState(
        camera=camera,
        state="live",
        model_id=model_id,
        seen=seen,
        inferred=0,
        forwarded={},
        spooled=0,
        acked=0,
        evicted=0,
        dropped={},
        threshold=0.0,
        loss_mean=0.0,
    )
