"""A trained student as one ONNX graph: whole detector in, fixed number of boxes out, proven equal to the original.

The graph takes `frames`, uint8 `(B, H, W, 3)` RGB, batch and size free, and gives a fixed number of rows: boxes
`(B, N, 4)` float32 xyxy in input pixels, scores `(B, N)` float32 best first, labels `(B, N)` int64, 0-based. Rows that
hold nothing have box 0, score 0 and label -1. Which module does that is for the family to say.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from culling.cloud.model.family import family_of
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.common.scaler import STRIDE, resize

OPSET = 18
"""The newest opset all of whose operators onnxruntime's CUDA provider has kernels for (ultralytics#25915)."""

BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-3
"""Two detections are equal within these: pixels, and score."""

UNMATCHED = 0.01
"""Share of detections that may have no equal: where two overlaps or logits round to a tie, other boxes survive."""

PARITY_SHARES = ((0.55, 1.0), (0.45, 0.6), (0.4, 0.5), (0.75, 0.75))
"""Height and width of the parity check's inputs, in long sides: wide, two smaller ones of 4:3 and 5:4, and square."""


def export_student(model: nn.Module, classes: Sequence[str]) -> bytes:
    """Return `model` as ONNX in one piece, its classes and stride in the metadata. `model` is left in evaluation mode.

    Raises `ModelError` if the model has another number of classes.
    """
    family = family_of(model)
    outputs = family.classes(model)
    if outputs != len(classes):
        raise ModelError(f"the model has {outputs} classes, but {len(classes)} were named")
    batch, rows, columns = (torch.export.Dim(name, min=least) for name, least in (("batch", 1), ("h", 2), ("w", 2)))
    with _quiet():
        program = torch.onnx.export(
            family.graph(model.cpu().eval()).eval(),
            (torch.zeros(2, 4 * STRIDE, 6 * STRIDE, 3, dtype=torch.uint8),),
            input_names=["frames"],
            output_names=["boxes", "scores", "labels"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: batch, 1: STRIDE * rows, 2: STRIDE * columns},),
        )
    assert program is not None  # what `dynamo=True` promises
    proto = program.model_proto
    for node in proto.graph.node:
        node.ClearField("metadata_props")  # stack traces, with the paths of this machine
    onnx.helper.set_model_props(proto, {"culling.classes": ",".join(classes), "culling.stride": str(STRIDE)})
    return bytes(proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's export from printing and warning about its internals."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Parity:
    """How well a graph agrees with its model: worst errors over the `matched` detections, and those without an equal.

    `box_error` is in pixels. `ties` sit at a cut (the score floor, or the last place of a full list), where rounding
    decides; `unmatched` do not.
    """

    frames: int
    matched: int
    ties: int
    unmatched: int
    box_error: float
    score_error: float


def parity_sizes(long_side: int) -> list[tuple[int, int]]:
    """Return the sizes `(height, width)` at which a student of this `long_side`, in pixels, is compared with its graph.

    They are multiples of the stride, of two strides at least.
    """

    def pixels(share: float) -> int:
        return STRIDE * max(2, round(long_side * share / STRIDE))

    return [(pixels(height), pixels(width)) for height, width in PARITY_SHARES]


def check_parity(
    model: nn.Module, data: bytes, frames: Sequence[NDArray[np.uint8]], sizes: Sequence[tuple[int, int]]
) -> Parity:
    """Return how the graph in `data` agrees with `model` on `frames`, each `(H, W, 3)` RGB, and on a blank one.

    Every frame is tried in every one of `sizes`, as `parity_sizes` gives them. Raises `ModelError`
    if more than one in a hundred detections has no equal, or the best score on a nearly blank frame differs. On one of
    zeros the graph only has to answer: all its places are alike, so rounding decides which of them survive.
    Equal means same label, 0.01 px and 0.001 in score.
    """
    graph = open_graph(data, provider="cpu")
    cut = family_of(model).cut(model)
    parts = []
    for height, width in sizes:
        graph.run(np.zeros((1, height, width, 3), np.uint8))
        blank = np.random.default_rng(0).integers(0, 4, (1, height, width, 3), np.uint8)
        _check_blank(run_torch(model, blank)[0], graph.run(blank)[0], f"{width}x{height}")
        batch = np.stack([resize(frame, height, width) for frame in frames])
        pairs = zip(run_torch(model, batch), graph.run(batch), strict=True)
        parts += [_compare(*pair, *cut) for pair in pairs]
    parity = _total(parts)
    if parity.unmatched > UNMATCHED * (parity.matched + parity.unmatched):
        found = f"{parity.unmatched} detections have no equal, {parity.matched} have"
        raise ModelError(f"the exported graph differs from the model: {found}")
    return parity


@torch.inference_mode()
def run_torch(model: nn.Module, frames: NDArray[np.uint8]) -> list[Detections]:
    """Return what the model itself finds in `frames` `(B, H, W, 3)` uint8 RGB; boxes in pixels of that input."""
    device = next(model.parameters()).device
    images = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
    return [
        Detections(*(part.cpu().numpy() for part in found)) for found in family_of(model).find(model.eval(), images)
    ]


def _check_blank(wanted: Detections, got: Detections, size: str) -> None:
    best, right = (float(found.scores.max(initial=0)) for found in (got, wanted))
    if abs(best - right) > SCORE_TOLERANCE:
        found = f"on a blank {size} frame its best score is {best:.3f}, not {right:.3f}"
        raise ModelError(f"the exported graph differs from the model: {found}")


def _compare(wanted: Detections, got: Detections, floor: float, most: int) -> Parity:
    """Return the parity of one frame, pairing each detection with the closest equal one that is left."""
    boxes = np.abs(wanted.boxes[:, None] - got.boxes[None]).max(2, initial=0)
    scores = np.abs(wanted.scores[:, None] - got.scores[None])
    equal = (boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE) & (wanted.labels[:, None] == got.labels[None])
    distance = np.where(equal, boxes + scores, np.inf)
    pairs: list[tuple[int, int]] = []
    for row in range(len(wanted) if len(got) else 0):
        column = int(distance[row].argmin())
        if np.isfinite(distance[row, column]):
            pairs.append((row, column))
            distance[:, column] = np.inf
    rows, columns = (list(side) for side in zip(*pairs, strict=True)) if pairs else ([], [])
    left = np.concatenate([np.delete(wanted.scores, rows), np.delete(got.scores, columns)])
    cut = max([floor, *(float(found.scores[-1]) for found in (wanted, got) if len(found) == most)])
    ties = int((left <= cut + SCORE_TOLERANCE).sum())
    worst = (float(errors[rows, columns].max(initial=0)) for errors in (boxes, scores))
    return Parity(1, len(pairs), ties, len(left) - ties, *worst)


def _total(parts: Sequence[Parity]) -> Parity:
    return Parity(
        frames=sum(part.frames for part in parts),
        matched=sum(part.matched for part in parts),
        ties=sum(part.ties for part in parts),
        unmatched=sum(part.unmatched for part in parts),
        box_error=max((part.box_error for part in parts), default=0.0),
        score_error=max((part.score_error for part in parts), default=0.0),
    )
