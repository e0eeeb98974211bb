"""What makes Faster R-CNN a family of students."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from culling.cloud.model.family import Family, Found
from culling.cloud.model.faster_rcnn.graph import FasterRcnnGraph
from culling.cloud.model.faster_rcnn.loss import faster_rcnn_loss, faster_rcnn_pass
from culling.cloud.model.faster_rcnn.network import STUDENT, TEACHER, DetectorSpec, build, freeze, is_student

LOG_ODDS = 4.6
"""A new class starts at a hundredth of the background's odds: few proposals hold an object of it."""


def find(model: FasterRCNN, images: Tensor) -> Iterator[Found]:
    """Yield what torchvision itself finds in every image, as `Family.find` says."""
    for found in model(list(images)):
        yield found["boxes"], found["scores"], found["labels"] - 1


def fold_norms(model: FasterRCNN) -> FasterRCNN:
    """Return a copy of `model` in evaluation mode, on the CPU, whose trunk computes the same without norms."""
    folded = copy.deepcopy(model).cpu().eval()
    for block in folded.backbone.body.modules():
        names = [name for name, _ in block.named_children()]
        for name, following in pairwise(names):
            conv, norm = getattr(block, name), getattr(block, following)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, name, fuse_conv_bn_eval(conv, norm))
                setattr(block, following, nn.Identity())
    return folded


@torch.no_grad()
def with_classes(model: FasterRCNN, names: Sequence[str], classes: Sequence[str]) -> FasterRCNN:
    """Return a copy of `model`, whose classes are `names`, as one of `classes`; see `Family.relist`.

    A new class starts as unlikely as `PRIOR` has it beside the background, and moves boxes as the known ones do on
    average.
    """
    other = copy.deepcopy(model)
    before = model.roi_heads.box_predictor
    after = FastRCNNPredictor(before.cls_score.in_features, len(classes) + 1)
    rows = [0, *(names.index(name) + 1 if name in names else None for name in classes)]
    for kind in ("weight", "bias"):
        scores, moves = getattr(before.cls_score, kind), getattr(before.bbox_pred, kind)
        new = torch.zeros_like(scores[0]) if kind == "weight" else scores[0] - LOG_ODDS
        getattr(after.cls_score, kind).copy_(torch.stack([new if row is None else scores[row] for row in rows]))
        blocks = moves.unflatten(0, (-1, 4))
        mean = blocks[1:].mean(0)
        getattr(after.bbox_pred, kind).copy_(torch.cat([mean if row is None else blocks[row] for row in rows]))
    other.roi_heads.box_predictor = after.train(model.training)
    return other


def _build(tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> FasterRCNN:
    return build(_spec(tensors), classes)


def _spec(tensors: Mapping[str, Tensor]) -> DetectorSpec:
    """Return depth and widths as the tensors show them, and the rest as in the bundled pair."""
    depth = _depth(tensors)
    spec = STUDENT if depth == STUDENT.depth else TEACHER

    def width(name: str, usual: int) -> int:
        tensor = tensors.get(f"{name}.weight")
        return len(tensor) if tensor is not None and tensor.dim() else usual

    return replace(
        spec,
        depth=depth,
        fpn_width=width("backbone.fpn.layer_blocks.0.0", spec.fpn_width),
        head_width=width("roi_heads.box_head.fc6", spec.head_width),
        stem_width=width("backbone.body.conv1", spec.stem_width),
    )


def _depth(tensors: Mapping[str, Tensor]) -> int:
    if "backbone.body.layer1.0.conv3.weight" not in tensors:
        return STUDENT.depth
    return TEACHER.depth if "backbone.body.layer3.22.conv1.weight" in tensors else 50


FASTER_RCNN = Family(
    name="faster-rcnn-resnet18",
    kind=FasterRCNN,
    build=_build,
    classes=lambda model: model.roi_heads.box_predictor.cls_score.out_features - 1,
    loss=faster_rcnn_loss,
    find=find,
    graph=FasterRcnnGraph,
    fold=fold_norms,
    pyramid=lambda model: model.backbone,
    freeze=freeze,
    relist=with_classes,
    cut=lambda model: (model.roi_heads.score_thresh, model.roi_heads.detections_per_img),
    student=is_student,
    passing=faster_rcnn_pass,
)
