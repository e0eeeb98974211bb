"""The student at work on one camera: frames in, detections in full-frame pixels out, and its proof on golden frames.

A frame is resized straight to the input that the manifest's scale asks for; the graph does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from culling.common.errors import ModelError, ProtocolError
from culling.common.frame import Detections, iou
from culling.common.graph import Graph, to_frame
from culling.common.scaler import input_size, resize
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.manifest import Manifest
from culling.common.wire.messages import from_wire

CONFIDENT = 0.5
"""Score from which a detection must agree; weaker ones flip with the rounding of another GPU or CPU."""
MIN_IOU = 0.9
"""Boxes of one graph on two machines differ by fractions of a pixel; below this another model is at work."""
SCORE_SLACK = 0.05
"""Agreement across machines: far above the differences that rounding makes, far below those of another model."""


def _now() -> None:
    pass


class Picture(Protocol):
    """What the student needs from a camera's frame: its size in pixels, and the picture at another size."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the picture as `(height, width, 3)` uint8 RGB."""
        ...


class Student:
    """One model, as one camera uses it. Raises ModelError if the graph is not the one its manifest describes."""

    def __init__(self, manifest: Manifest, graph: Graph) -> None:
        if graph.info.classes != manifest.classes:
            raise ModelError(
                f"model {manifest.model_id} finds {', '.join(graph.info.classes)}, "
                f"its manifest says {', '.join(manifest.classes)}"
            )
        self.manifest = manifest
        self.graph = graph

    @property
    def model_id(self) -> str:
        """The model's id, which names the student that saw a frame."""
        return self.manifest.model_id

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in label order."""
        return self.manifest.classes

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Return `(height, width)` of the input for frames of that size; frames that share it may share a batch."""
        return input_size(width, height, self.manifest.scale, self.manifest.long_side)

    def infer(self, frames: Sequence[Picture]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame.

        Frames of the same input size run together, in batches of powers of two, so that few shapes occur. Raises
        ModelError when the model fails.
        """
        sizes = [self.input_size(frame.width, frame.height) for frame in frames]
        found: dict[int, Detections] = {}
        for size in dict.fromkeys(sizes):
            places = [place for place, other in enumerate(sizes) if other == size]
            while places:
                together = 1 << len(places).bit_length() - 1
                places, others = places[:together], places[together:]
                batch = np.stack([frames[place].input(*size) for place in places])
                for place, detections in zip(places, self.graph.run(batch), strict=True):
                    found[place] = to_frame(detections, size, (frames[place].height, frames[place].width))
                places = others
        return [found[place] for place in range(len(frames))]

    def warm(self, size: tuple[int, int], max_batch: int, before: Callable[[], None] = _now) -> None:
        """Run a blank batch of every length that can occur, up to `max_batch`, of inputs of `size`, `(height, width)`.

        `before` is called before every run, and may wait for a quiet moment.
        """
        for power in range(max_batch.bit_length()):
            before()
            self.graph.warm(1 << power, *size)

    def prove(self, before: Callable[[], None] = _now) -> None:
        """Raise ModelError unless the golden frames give the detections in the manifest; `before` as in `warm`."""
        for number, golden in enumerate(self.manifest.golden):
            try:
                rgb, wanted = decode_jpeg(golden.jpeg), from_wire(golden.detections, len(self.classes))
            except ProtocolError as error:
                raise ModelError(f"golden frame {number} of model {self.model_id} cannot be used: {error}") from error
            size, full = self.input_size(rgb.shape[1], rgb.shape[0]), (rgb.shape[0], rgb.shape[1])
            before()
            found = to_frame(self.graph.run(resize(rgb, *size)[None])[0], size, full)
            if not agree(found, wanted):
                raise ModelError(f"model {self.model_id} disagrees with its manifest on golden frame {number}")


def agree(one: Detections, other: Detections) -> bool:
    """Return whether every confident detection on either side has a match on the other.

    A match has the same label, IoU >= 0.9 and a score within 0.05. Only one of the two must be confident, so that a
    score at the border of 0.5 may fall on either side of it.
    """
    return _covers(one, other) and _covers(other, one)


def _covers(found: Detections, wanted: Detections) -> bool:
    wanted = wanted.above(CONFIDENT)
    alike = iou(wanted.boxes, found.boxes) >= MIN_IOU
    alike &= np.abs(wanted.scores[:, None] - found.scores[None]) <= SCORE_SLACK
    alike &= wanted.labels[:, None] == found.labels[None]
    return bool(alike.any(axis=1).all())
