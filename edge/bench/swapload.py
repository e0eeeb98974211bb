"""A camera at a steady pace on a real model slot, whose model is swapped while it runs, or left alone.

The camera holds only the newest frame, as an agent's does: when the student is late, an overtaken frame is lost.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from culling.common.bench import resident
from culling.common.clock import SystemClock
from culling.common.errors import CullingError
from culling.common.graph import Provider
from culling.common.scaler import resize
from culling.common.wire.manifest import key_id, sign
from culling.common.wire.messages import ModelChunk, ModelOffer, ModelRequest
from culling.edge.bench.material import Material
from culling.edge.model.builder import Builder
from culling.edge.model.probation import ProbationRules
from culling.edge.model.slot import ModelSlot, Package
from culling.edge.model.student import Student
from culling.edge.model.updater import Updater

CAMERA = "bench"
QUICK = ProbationRules(frames=8, seconds=0.2, samples=5, spacing_s=0.0, slow=20.0)
"""The shortest probation that still compares; `slow` is out of reach, since speed means little on a loaded machine."""
USED = 0.5
"""The share of the student's time that the camera takes: as busy as a machine should be that also gets models."""
PROBED = 20
"""Frames that the camera shows in turn, and from which its pace is computed."""
SWAP_S = 300.0
"""After which a swap counts as stuck; on two busy cores one takes about half a minute."""
LINE = 25e6
"""Bytes a second at which models arrive: 200 Mbit/s."""


@dataclass(frozen=True)
class Figures:
    """What became of the frames during a stretch of time; `failed` counts the swaps that did not go live."""

    p99_ms: float
    lost: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Still:
    """A frame of the camera, `(H, W, 3)` RGB."""

    rgb: NDArray[np.uint8]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the picture as the student's input."""
        return resize(self.rgb, height, width)


class SwapLoad:
    """Runs the camera during its `with` block; `resident` is this process's memory after every swap, bytes."""

    def __init__(self, folder: Path, material: Material, provider: Provider, threads: int) -> None:
        self.resident: list[int] = []
        self.fps = 0.0
        self._refused: list[str] = []
        self._material = material
        self._frames = [Still(one[0]) for one in material.inputs(PROBED)]
        self._initial = folder / "initial.onnx"
        self._initial.write_bytes(material.model)
        self._builder = Builder(provider, threads)
        package = Package(material.manifest(CAMERA, 1, material.model), self._initial)
        self._slot = ModelSlot(CAMERA, folder / CAMERA, package, self._builder, SystemClock(), QUICK)
        self._key = Ed25519PrivateKey.generate()
        trusted = {key_id(self._key.public_key()): self._key.public_key()}
        self._updater = Updater({CAMERA: self._slot}, trusted, SystemClock(), self._refused.append)
        self._counter = 1
        self._latencies: list[float] = []
        self._lost = 0
        self._over = threading.Event()
        self._camera = threading.Thread(target=self._play, name="camera", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._builder.start()
        self._slot.boot()
        self.fps = USED / self._seconds_a_frame()
        self._camera.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._camera.join()
        self._builder.close()

    def swap(self, count: int, on_swap: Callable[[], None] = lambda: None) -> Figures:
        """Swap in `count` models, one after the other."""
        began, failed = self._begin(), 0
        for _ in range(count):
            failed += not self._swap()
            self.resident.append(resident())
            on_swap()
        return self._end(began, failed)

    def rest(self, seconds: float) -> Figures:
        """Let the camera run without swaps for that long."""
        began = self._begin()
        self._over.wait(seconds)
        return self._end(began, 0)

    def _swap(self) -> bool:
        """Swap in a model; return whether it went live."""
        self._counter += 1
        # protobuf merges a message appended to another: the same model, under another hash.
        model = self._material.model + onnx.ModelProto(doc_string=str(self._counter)).SerializeToString()
        manifest = self._material.manifest(CAMERA, self._counter, model)
        self._updater.offered(ModelOffer(CAMERA, sign(manifest, self._key)))
        deadline = time.monotonic() + SWAP_S
        while not (reports := self._updater.reports()):
            broken = self._failure or self._builder.failure or ", ".join(self._refused)
            if broken or time.monotonic() > deadline:
                raise CullingError(f"a swap did not end: {broken or f'it took longer than {SWAP_S:g} s'}")
            self._send(model)
        for report in reports:
            self._updater.sent(report)
        return reports[-1].outcome == "live"

    def _send(self, model: bytes) -> None:
        """Send the requested piece, if there is one, at the speed of the line."""
        for wanted in self._updater.outgoing():
            if isinstance(wanted, ModelRequest):
                piece = model[wanted.offset : wanted.offset + wanted.length]
                time.sleep(len(piece) / LINE)
                self._updater.chunk(ModelChunk(CAMERA, wanted.model_id, wanted.offset, len(model)), piece)
                return
        time.sleep(0.01)

    def _begin(self) -> float:
        self._latencies, self._lost = [], 0
        return time.monotonic()

    def _end(self, began: float, failed: int) -> Figures:
        if self._failure is not None:
            raise CullingError(f"the camera broke: {self._failure}") from self._failure
        latencies, seconds = self._latencies, time.monotonic() - began
        p99 = statistics.quantiles(latencies, n=100)[-1] if len(latencies) > 1 else float("nan")
        return Figures(1000 * p99, self._lost, failed, seconds)

    def _seconds_a_frame(self) -> float:
        student, times = self._student(), []
        for frame in self._frames:
            started = time.perf_counter()
            student.infer([frame])
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def _student(self) -> Student:
        student = self._slot.between_frames(time.monotonic())
        assert student is not None, "it was installed with one"
        return student

    def _play(self) -> None:
        try:
            began, number = time.monotonic(), 0
            while not self._await_frame(began + number / self.fps - time.monotonic()):
                newest = int((time.monotonic() - began) * self.fps)
                self._lost += max(0, newest - number)
                number = max(number, newest)
                self._show(self._frames[number % PROBED], began + number / self.fps)
                number += 1
        except BaseException as failure:
            self._failure = failure

    def _await_frame(self, seconds: float) -> bool:
        """Wait until the next frame is due; return whether the camera was stopped instead."""
        if seconds > 0:
            self._builder.rests()
        return self._over.wait(max(0.0, seconds))

    def _show(self, frame: Still, due: float) -> None:
        (found,) = self._student().infer([frame])
        now = time.monotonic()
        self._latencies.append(now - due)
        self._slot.observe(frame, found, now)
