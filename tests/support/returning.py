"""A camera whose student in use has gone blind, and whose earlier ones see: tiny graphs, with weights to train from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from culling.cloud.control.publish import Publisher
from culling.cloud.model.weights import save_weights
from culling.cloud.settings.access import Site
from culling.cloud.store.registry import Model
from culling.common.frame import Detections
from culling.common.graph import open_graph, see
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg
from support import tiny
from support.clock import FakeClock
from support.cloud import CAMERA
from support.detectors import small_student
from support.rounds import camera_with_student
from support.stored import everything

HOUR_S = 3600.0


class Returning:
    """`cloud` with `round.zoo = 4`; what is published goes live an hour after what was before it.

    Every labelled frame shows what the student `sees` finds, so that it makes no mistake.
    """

    def __init__(self, folder: Path, narrow: Path) -> None:
        self.cloud = camera_with_student(folder, narrow)
        self.sees = tiny.student()
        self._clock = FakeClock(self.cloud.clock.now() - 24 * HOUR_S)
        cloud = self.cloud
        self._publisher = Publisher(cloud.index, cloud.files, cloud.keys.signing, 365.0, self._clock)
        weights = folder / "other.safetensors"
        save_weights(weights, small_student(seed=7), "fp16")
        self.weights = cloud.files.add(weights.read_bytes(), "safetensors")
        self.set(zoo=4)

    def set(self, section: str = "round", **changes: Any) -> None:
        """Change the settings."""
        part = getattr(self.cloud.settings, section).model_copy(update=changes)
        self.cloud.settings = self.cloud.settings.model_copy(update={section: part})

    def publish(self, graph: bytes, camera: str = CAMERA, **changes: Any) -> Model:
        """Make a student live, with weights of its own."""
        self._clock.advance(HOUR_S)
        base = self.cloud.registry.models(CAMERA)[-1].artefact
        sha256 = self.cloud.files.add(graph, "onnx")
        made = {"sha256": sha256, "size": len(graph), "weights": self.weights, "parent": "gate-1", "golden": ()}
        return self._publisher.publish(camera, msgspec.structs.replace(base, **made | changes), "round")

    def beside(self, camera: str, graph: bytes, **changes: Any) -> Model:
        """Enroll another camera, on an edge of its own, and have it run a student that is not its first."""
        self.cloud.enroll(camera, edge=f"edge-{camera}")
        self.cloud.publisher.publish(camera, self.cloud.registry.models(CAMERA)[-1].artefact, "base")
        return self.publish(graph, camera, **changes)

    def site(self, *edges: str) -> None:
        """Let those edges be one site."""
        self.cloud.settings = self.cloud.settings.model_copy(update={"sites": {"north": Site(edges=edges)}})

    def label(self, held_out_by: bytes | None = None) -> None:
        """Label every frame by what a student finds: those to train on by `sees`, held-out ones by another if given."""
        given = {False: self.sees, True: held_out_by or self.sees}
        graphs = {held_out: open_graph(one, provider="cpu", threads=1) for held_out, one in given.items()}
        found = {}
        for frame in everything(self.cloud):
            image = decode_jpeg(self.cloud.frames.jpeg(frame) or b"")
            size = input_size(image.shape[1], image.shape[0], 1.0, self.cloud.settings.student.long_side)
            seen = see(graphs[frame.held_out], image, size)
            found[frame.id] = Detections(seen.boxes, np.full(len(seen), 0.9, np.float32), seen.labels)
        self.cloud.lifecycle.label(found)
