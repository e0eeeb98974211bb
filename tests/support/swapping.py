"""One camera's model slot with a real builder thread and real small models, and a clock that the test moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from culling.common.clock import Clock
from culling.common.errors import ModelError
from culling.edge.model.builder import Builder
from culling.edge.model.probation import ProbationRules
from culling.edge.model.slot import ModelSlot, Package
from support import tiny
from support.clock import FakeClock
from support.waiting import LONG_S

QUICK = ProbationRules(frames=8, seconds=1.0, samples=5, spacing_s=0.0)
FRAME_S = 0.2
KEY = Ed25519PrivateKey.generate()


def trusted(model: Path, sizes: list[tuple[int, int]]) -> None:
    """Stands in for the look in a child process."""


class Rig:
    """A camera named `gate` and its models; `initial` is what the agent was installed with, as counter 1."""

    def __init__(
        self,
        folder: Path,
        clock: Clock | None = None,
        initial: bytes | None = b"",
        rules: ProbationRules = QUICK,
        vet: Callable[[Path, list[tuple[int, int]]], None] = trusted,
    ) -> None:
        self.folder = folder
        self.fake = FakeClock(now=1_000_000.0)
        self.clock = clock or self.fake
        self.errors: list[str] = []
        self.builder = Builder("cpu", threads=1, lull_s=0)
        self.builder.start()
        package = None
        if initial is not None:
            shipped = tiny.ship(initial or tiny.student(), KEY, now=self.clock.now())
            (folder / "initial.onnx").write_bytes(shipped.model)
            package = Package(shipped.manifest, folder / "initial.onnx")
        self.slot = ModelSlot(
            "gate", folder / "gate", package, self.builder, self.clock, rules, self.errors.append, vet
        )

    def close(self) -> None:
        self.builder.close(10)
        if self.builder.failure is not None:
            raise self.builder.failure

    def ship(self, model: bytes, counter: int = 2, **wishes: object) -> tiny.Shipped:
        return tiny.ship(model, KEY, counter=counter, now=self.clock.now(), **wishes)  # type: ignore[arg-type]

    def deliver(self, shipped: tiny.Shipped) -> None:
        """Do what the updater does once the model's last byte is here, and wait until it is warm or refused."""
        assert self.slot.offer(shipped.manifest)
        self.slot.downloading()
        self.slot.path(shipped.manifest.model_id, "onnx").write_bytes(shipped.model)
        self.slot.stage(shipped.manifest.model_id)
        self.wait()

    def wait(self) -> None:
        """Wait until the builder has done all that it was given."""
        done = threading.Event()
        self.builder.submit(done.set)
        deadline = time.monotonic() + LONG_S
        while not done.wait(0.05):
            if self.builder.failure is not None:
                raise self.builder.failure
            assert time.monotonic() < deadline, "the builder is stuck"

    def play(self, frames: int, rgb: NDArray[np.uint8] | None = None) -> list[str]:
        """Show the camera's student some frames; return which model answered each, or what it failed of."""
        frame = tiny.Still(tiny.picture(320, 192) if rgb is None else rgb)
        return [self._play_one(frame) for _ in range(frames)]

    def running(self) -> str | None:
        student = self.slot.current()
        return student.model_id if student else None

    def _play_one(self, frame: tiny.Still) -> str:
        self.fake.advance(FRAME_S)
        student = self.slot.between_frames(self.fake.monotonic())
        if student is None:
            return "none"
        try:
            (found,) = student.infer([frame])
        except ModelError as error:
            self.slot.failed(error, self.fake.monotonic())
            return str(error)
        self.slot.observe(frame, found, self.fake.monotonic())
        self.wait()
        return student.model_id
