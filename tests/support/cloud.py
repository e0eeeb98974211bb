"""The cloud's state in one folder, an edge that speaks to it, and frames for it to send."""

from __future__ import annotations

import hashlib
import signal
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tomli_w

from culling.cloud.control.publish import Publisher
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.frames import is_held_out
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.registry import Artefact, Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.roster import Roster, add_edge
from culling.cloud.store.rounds import Rounds
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import Clock, SystemClock
from culling.common.frame import Detections
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import CameraState, FromEdge, HardFrame, Hello, Message, pack, to_wire, unpack
from culling.common.wire.transport import EdgeSocket, new_keypair, public_key
from support import tiny
from support.databases import store_url
from support.nursery import start
from support.waiting import LONG_S, wait_until

CAMERA = "gate"


class CloudState:
    """Everything below a data folder, as the service sees it; `settings` may be given as nested dicts.

    A service labels nothing unless `labelling` says so.
    """

    def __init__(self, folder: Path, clock: Clock | None = None, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.clock = clock or SystemClock()
        service = {"data_dir": str(folder / "data"), "endpoint": "tcp://127.0.0.1:0", "reserve_bytes": 0}
        self.sections: dict[str, dict[str, Any]] = {"metrics": {"port": 0}, "page": {"port": 0}, **sections}
        blocks = {"held_out_block_s": 1.0, "guard_s": 0.0}
        self.sections["store"] = {**blocks, **store_url(folder), **sections.get("store", {})}
        self.sections["labelling"] = {"per_day": 0, **sections.get("labelling", {})}
        self.sections["service"] = {**service, **sections.get("service", {})}
        self.toml = folder / "cloud.toml"
        self.toml.write_text(tomli_w.dumps(self.sections))
        self.settings: CloudSettings = load_settings(self.toml, {})
        self.data_dir = self.settings.data_dir
        self.keys = load_keys(self.data_dir)
        self.index = Index(self.settings.store_url)
        self.frames = frame_store(self.settings, self.index, self.clock)
        self.lifecycle = FrameLifecycle(self.index, self.frames, self.clock)
        self.files = model_files(self.settings)
        self.registry = Registry(self.index)
        self.roster = Roster(self.index)
        self.rounds = Rounds(self.index)
        self.requests = Requests(self.index)
        self.publisher = Publisher(self.index, self.files, self.keys.signing, 365.0, self.clock)

    def enroll(self, *cameras: str, edge: str = "edge-1") -> str:
        """Enroll an edge; return its secret key."""
        public, secret = new_keypair()
        with self.index.write() as connection:
            add_edge(connection, edge, public, cameras or (CAMERA,), self.clock.now())
        return secret

    def artefact(self, **changes: Any) -> Artefact:
        """Keep a tiny student; return it as something to publish."""
        data = tiny.student(**changes)
        return Artefact(self.files.add(data, "onnx"), len(data), None, 1.0, 640, CLASSES, None)

    def close(self) -> None:
        self.index.close()


class Edge:
    """An edge's end of the link, driven by a test."""

    def __init__(self, endpoint: str, server_key: str, secret: str) -> None:
        self.socket = EdgeSocket(endpoint, server_key, secret, reconnect_s=0.1)
        self.key = public_key(secret)

    def send(self, message: FromEdge, payload: bytes | None = None) -> None:
        self.send_parts(pack(message, payload))

    def send_parts(self, parts: list[bytes]) -> None:
        deadline = time.monotonic() + LONG_S
        while not self.socket.send(parts):
            assert time.monotonic() < deadline, "the link takes nothing"
            self.socket.poll(0.05)

    def receive(
        self, *kinds: type[Any], within_s: float = LONG_S, beat: FromEdge | None = None
    ) -> tuple[Any, bytes | None]:
        """Return the next message of one of these kinds; meanwhile send `beat`: a silent edge is offered nothing."""
        deadline, due = time.monotonic() + within_s, 0.0
        others: list[Message] = []
        while time.monotonic() < deadline:
            if beat is not None and time.monotonic() >= due:
                self.send(beat)
                due = time.monotonic() + 1
            if (parts := self.socket.poll(0.1)) is None:
                continue
            message, payload = unpack(parts, "cloud")
            if isinstance(message, kinds):
                return message, payload
            others.append(message)
        raise AssertionError(f"none of {kinds} within {within_s} s, but {others}")

    def ask(self, message: FromEdge, *kinds: type[Any], payload: bytes | None = None) -> Any:
        """Send, and return the answer of one of these kinds."""
        self.send(message, payload)
        return self.receive(*kinds)[0]

    def close(self) -> None:
        self.socket.close()


def camera_state(camera: str = CAMERA, model_id: str = "none", **changes: Any) -> CameraState:
    """Return what an edge says of a camera."""
    counts: dict[str, Any] = {"seen": 100, "inferred": 90, "forwarded": {"hard": 3}, "spooled": 3, "acked": 2}
    rest: dict[str, Any] = {"state": "live", "evicted": 0, "dropped": {}, "threshold": 4.0, "loss_mean": 2.0}
    return CameraState(camera=camera, model_id=model_id, **{**counts, **rest, **changes})


def hello(*states: CameraState) -> Hello:
    return Hello("culling test", "boot-1", list(states or (camera_state(),)))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections from rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def captured(seq: int) -> float:
    """Return when `hard_frame` says that a frame was captured."""
    return 1_800_000_000.0 + seq


def held_out(seq: int, camera: str = CAMERA) -> bool:
    """Return whether `CloudState` holds such a frame out."""
    return is_held_out(camera, captured(seq), 1.0)


def hard_frame(
    seq: int = 1, camera: str = CAMERA, jpeg: bytes | None = None, found: Detections | None = None, **changes: Any
) -> tuple[HardFrame, bytes]:
    """Return a frame as an edge sends it, and its JPEG."""
    width, height = 64, 48
    if jpeg is None:
        jpeg = encode_jpeg(np.full((height, width, 3), seq % 256, np.uint8))
    frame = HardFrame(
        camera=camera,
        boot=changes.pop("boot", "boot-1"),
        seq=seq,
        frame=seq * 10,
        pts=seq * 0.4,
        captured=changes.pop("captured", captured(seq)),
        reason=changes.pop("reason", "hard"),
        loss=changes.pop("loss", float(seq)),
        model_id=changes.pop("model_id", f"{camera}-1"),
        width=changes.pop("width", width),
        height=changes.pop("height", height),
        sha256=changes.pop("sha256", hashlib.sha256(jpeg).hexdigest()),
        detections=to_wire(detections((1, 1, 20, 20, 0.9, 0)) if found is None else found),
        features=changes.pop("features", None),
        probability=changes.pop("probability", None),
        ignored=changes.pop("ignored", ()),
        shadow=changes.pop("shadow", None),
        echo=changes.pop("echo", b""),
    )
    assert not changes, changes
    return frame, jpeg


ADDRESSES = {"ingest": "endpoint", "page": "page", "control": "metrics"}
"""The last file that a process of a role writes once it runs, the later ones first."""


class Place(Protocol):
    """Where a process works."""

    folder: Path
    data_dir: Path
    toml: Path


class ServiceProcess:
    """A real `culling cloud serve` on a `CloudState`, or whatever has a `folder`; its log goes to `service.log`.

    `roles` are those that it has, by default all; `endpoint` is "" without an ingest.
    """

    def __init__(self, state: Place, *roles: str) -> None:
        self._state = state
        last = next((name for role, name in ADDRESSES.items() if role in roles), "endpoint")
        self._endpoint = state.data_dir / last
        self._endpoint.unlink(missing_ok=True)
        told = [part for role in roles for part in ("--role", role)]
        self.process = start(["cloud", "serve", "--config", str(state.toml), *told], state.folder / "service.log")
        try:
            wait_until(lambda: self._endpoint.exists() or self.process.poll() is not None)
        except AssertionError:
            self.kill()  # nobody else would
            raise
        assert self.process.poll() is None, self.log()
        self.endpoint = self.address("endpoint")

    def address(self, name: str) -> str:
        """Return where it listens: `endpoint`, `page` or `metrics`; "" where it does not."""
        path = self._state.data_dir / name
        return path.read_text().strip() if path.exists() else ""

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        return (self._state.folder / "service.log").read_text()

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        if kind is not None:
            print(self.log()[-6000:])  # pytest shows it beside what failed
