"""A trained student as one ONNX graph: whole detector in, fixed number of boxes out, proven equal to the original.

torchvision's own detectors cannot be exported with dynamo (pytorch/vision#9306, #9462): which boxes survive decides
the shapes. Here every shape is fixed by the input's size. Each pyramid level gives its best `k` anchors, padded where
it holds fewer; suppression is a fixed-point iteration over the overlaps; every proposal is pooled on every level and
the right one is picked; what did not survive stays in its place with score 0.
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
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import roi_align

from culling.cloud.model.detector import STRIDE
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.common.scaler import resize

OPSET = 18
"""The newest opset all of whose operators onnxruntime's CUDA provider has kernels for (ultralytics#25915)."""

ROUNDS = 16
"""Rounds of suppression; exact unless a chain of boxes that suppress each other is longer, see `suppress`.

No more than 8 were needed so far, on the crowded boxes of untrained students.
"""

FINEST = 2
"""Pyramid levels are counted from stride 2 ** FINEST."""

BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-3
"""Two detections are equal within these: pixels, and score."""

UNMATCHED = 0.01
"""Share of detections that may have no equal: where two overlaps or logits round to a tie, other boxes survive."""

PARITY_SIZES = ((352, 640), (288, 384), (256, 320), (480, 480))
"""`(height, width)`: wide, two smaller ones of 4:3 and 5:4, and square."""


class StudentGraph(nn.Module):
    """`model` with static shapes: `frames` uint8 `(B, H, W, 3)` RGB in; boxes, scores and labels of N rows out.

    Boxes are `(B, N, 4)` float32 xyxy in input pixels, scores `(B, N)` float32 best first, labels `(B, N)` int64,
    0-based; rows that hold nothing have box 0, score 0 and label -1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.backbone, self.rpn, self.heads = model.backbone, model.rpn, model.roi_heads
        self.register_buffer("mean", torch.tensor(model.transform.image_mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.transform.image_std).view(3, 1, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels as the class says."""
        height, width = frames.shape[1:3]
        limits = torch.tensor([width, height, width, height], dtype=torch.float32, device=frames.device)
        images = (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        features = self.backbone(images)
        proposals, real = self._propose(list(features.values()), height, width, limits)
        pooled = self._pool([features[name] for name in self.heads.box_roi_pool.featmap_names], proposals)
        logits, deltas = self.heads.box_predictor(self.heads.box_head(pooled))
        return self._answer(logits, deltas, proposals, real, limits)

    def _propose(self, features: list[Tensor], height: int, width: int, limits: Tensor) -> tuple[Tensor, Tensor]:
        """Return proposals `(B, P, 4)` and which of them are real."""
        levels = zip(*self.rpn.head(features), self._anchors(features, height, width), strict=True)
        best, logits = zip(*(self._best(*level) for level in levels), strict=True)
        boxes, score = clip(torch.stack(best, 1), limits), torch.stack(logits, 1).sigmoid()
        kept = suppress(boxes, wide(boxes, self.rpn.min_size), self.rpn.nms_thresh, ROUNDS)
        ranked = torch.where(kept, score, -1.0).flatten(1)
        top, index = ranked.topk(self.rpn.post_nms_top_n(), dim=1)
        return boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)), top >= 0

    def _anchors(self, features: list[Tensor], height: int, width: int) -> list[Tensor]:
        """Return each level's anchors `(h * w * 3, 4)`: torchvision's, whose strides are rounded down."""
        anchors = []
        for feature, cell in zip(features, self.rpn.anchor_generator.cell_anchors, strict=True):
            rows, columns = feature.shape[2:]
            y = torch.arange(rows, device=feature.device) * (height // rows)
            x = torch.arange(columns, device=feature.device) * (width // columns)
            y, x = torch.meshgrid(y, x, indexing="ij")
            shift = torch.stack([x, y, x, y], 2).float()
            anchors.append((shift[:, :, None] + cell.to(feature.device)).reshape(-1, 4))
        return anchors

    def _best(self, objectness: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the `k` best boxes of one level `(B, k, 4)`, best first, and their logits `(B, k)`."""
        batch, per_cell, rows, columns = objectness.shape
        k = self.rpn.pre_nms_top_n()
        logits = objectness.permute(0, 2, 3, 1).reshape(batch, -1)
        deltas = deltas.view(batch, per_cell, 4, rows, columns).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        # A small level holds fewer anchors than k: the rest are boxes without area, which nothing keeps.
        logits = torch.cat([logits, logits.new_full((batch, k), -torch.inf)], 1)
        deltas = torch.cat([deltas, deltas.new_zeros(batch, k, 4)], 1)
        anchors = torch.cat([anchors, anchors.new_zeros(k, 4)])
        top, index = logits.topk(k, dim=1)
        offsets = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        return decode(anchors[index], offsets[..., None, :], self.rpn.box_coder)[..., 0, :], top

    def _pool(self, features: list[Tensor], proposals: Tensor) -> Tensor:
        """Return `(B * P, C, 7, 7)`: every proposal pooled on the level that fits its size."""
        pool = self.heads.box_roi_pool
        batch, count, _ = proposals.shape
        frame = torch.arange(batch, device=proposals.device).view(batch, 1, 1).expand(-1, count, -1)
        regions = torch.cat([frame.float(), proposals], 2).flatten(0, 1)
        side = (regions[:, 3:] - regions[:, 1:3]).prod(1).sqrt()
        level = torch.floor(pool.canonical_level + torch.log2(side / pool.canonical_scale) + 1e-6)
        level = level.clamp(FINEST, FINEST + len(features) - 1)[:, None, None, None]
        pooled = torch.zeros((), device=regions.device)
        for at, feature in enumerate(features, FINEST):
            every = roi_align(feature, regions, pool.output_size, 0.5**at, pool.sampling_ratio)
            pooled = torch.where(level == at, every, pooled)
        return pooled

    def _answer(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, real: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = proposals.shape
        scores = logits.softmax(1).view(batch, count, -1)[:, :, 1:].transpose(1, 2)
        boxes = decode(proposals, deltas.view(batch, count, -1, 4), self.heads.box_coder)
        boxes = clip(boxes[:, :, 1:].transpose(1, 2), limits)
        scores, order = scores.sort(dim=2, descending=True)
        boxes = boxes.gather(2, order[..., None].expand(-1, -1, -1, 4))
        real = real[:, None].expand_as(order).gather(2, order)
        wanted = (scores > self.heads.score_thresh) & wide(boxes, 1e-2) & real
        kept = suppress(boxes, wanted, self.heads.nms_thresh, ROUNDS)
        top, index = torch.where(kept, scores, 0.0).flatten(1).topk(self.heads.detections_per_img, dim=1)
        found = top > 0
        boxes = boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)) * found[..., None]
        return boxes, top, torch.where(found, index // count, -1)


def decode(anchors: Tensor, deltas: Tensor, coder: BoxCoder) -> Tensor:
    """Return the boxes `(…, C, 4)` that `deltas` `(…, C, 4)` make of `anchors` `(…, 4)`."""
    size = (anchors[..., 2:] - anchors[..., :2])[..., None, :]
    centre = anchors[..., None, :2] + 0.5 * size
    dx, dy, dw, dh = coder.weights
    centre = centre + deltas[..., :2] / deltas.new_tensor([dx, dy]) * size
    half = 0.5 * torch.exp((deltas[..., 2:] / deltas.new_tensor([dw, dh])).clamp(max=coder.bbox_xform_clip)) * size
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Return `boxes` `(…, 4)` cut to their image, `limits` being its width, height, width, height."""
    return torch.minimum(boxes.clamp(min=0), limits)


def wide(boxes: Tensor, side: float) -> Tensor:
    """Return which `boxes` `(…, 4)` measure at least `side` both ways."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) >= side


def suppress(boxes: Tensor, wanted: Tensor, threshold: float, rounds: int) -> Tensor:
    """Return which boxes `(…, n, 4)`, best first, greedy non-maximum suppression keeps of those `wanted` `(…, n)`.

    A box is kept if no better kept box overlaps it by more than `threshold`. Starting from all wanted boxes and
    applying that rule `r` times settles every box at the end of a chain of at most `r` overlaps, whichever other boxes
    are kept; so the answer is exact unless a chain is longer than `rounds`. An even `rounds` then leaves a few boxes
    too many, never too few.
    """
    corner = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    other = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    shared = (other - corner).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    better = torch.ones_like(shared, dtype=torch.bool).triu(1)
    beats = ((shared / (area[..., :, None] + area[..., None, :] - shared) > threshold) & better).float()
    kept = alive = wanted.float()[..., None, :]
    for _ in range(rounds):
        kept = alive * (kept @ beats < 0.5)
    return kept[..., 0, :] > 0.5


def export_student(model: FasterRCNN, classes: Sequence[str]) -> bytes:
    """Return `model` as ONNX in one piece, its classes and stride in the metadata. `model` is left in evaluation mode.

    Raises `ModelError` if the model has another number of classes.
    """
    outputs = model.roi_heads.box_predictor.cls_score.out_features - 1
    if outputs != len(classes):
        raise ModelError(f"the model has {outputs} classes, but {len(classes)} were named")
    batch, rows, columns = (torch.export.Dim(name, min=least) for name, least in (("batch", 1), ("h", 2), ("w", 2)))
    with _quiet():
        program = torch.onnx.export(
            StudentGraph(model.cpu().eval()).eval(),
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


def check_parity(
    model: FasterRCNN,
    data: bytes,
    frames: Sequence[NDArray[np.uint8]],
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
) -> Parity:
    """Return how the graph in `data` agrees with `model` on `frames`, each `(H, W, 3)` RGB, and on a blank one.

    Every frame is tried in every one of `sizes`, `(height, width)` in multiples of the stride. Raises `ModelError`
    if more than one in a hundred detections has no equal, or the best score on a nearly blank frame differs. On one of
    zeros the graph only has to answer: all its places are alike, so rounding decides which of them survive.
    Equal means same label, 0.01 px and 0.001 in score.
    """
    graph = open_graph(data, provider="cpu")
    heads = model.roi_heads
    parts = []
    for height, width in sizes:
        graph.run(np.zeros((1, height, width, 3), np.uint8))
        blank = np.random.default_rng(0).integers(0, 4, (1, height, width, 3), np.uint8)
        _check_blank(run_torch(model, blank)[0], graph.run(blank)[0], f"{width}x{height}")
        batch = np.stack([resize(frame, height, width) for frame in frames])
        pairs = zip(run_torch(model, batch), graph.run(batch), strict=True)
        parts += [_compare(*pair, heads.score_thresh, heads.detections_per_img) for pair in pairs]
    parity = _total(parts)
    if parity.unmatched > UNMATCHED * (parity.matched + parity.unmatched):
        found = f"{parity.unmatched} detections have no equal, {parity.matched} have"
        raise ModelError(f"the exported graph differs from the model: {found}")
    return parity


@torch.inference_mode()
def run_torch(model: FasterRCNN, frames: NDArray[np.uint8]) -> list[Detections]:
    """Return what torchvision itself finds in `frames` `(B, H, W, 3)` uint8 RGB; boxes in pixels of that input."""
    device = next(model.parameters()).device
    images = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
    return [
        Detections(found["boxes"].cpu().numpy(), found["scores"].cpu().numpy(), found["labels"].cpu().numpy() - 1)
        for found in model.eval()(list(images))
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
