"""Kind `detectron2`: Faster R-CNN checkpoints of its model zoo (R50, R101 and X101, FPN or C4), on torchvision's parts.

    [teacher]
    kind = "detectron2"
    file = "model_final_f6e8b1.pkl"   # R101-FPN 3x; a `.pth` or a converted `.safetensors` will do, too

What detectron2 does otherwise than torchvision is done its way: anchors that are not rounded, BGR (folded into the
first convolution), the stride in the first 1x1 convolution (MSRA's ResNets, not X101), RoIAlign shifted by half a pixel
with as many samples as a bin has pixels, levels without torchvision's margin, and the background as the last class.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align

from culling.cloud.model.coco import COCO_80
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.bundled import TorchTeacher
from culling.cloud.teacher.pickled import read_arrays
from culling.cloud.teacher.torchvision import read_weights
from culling.common.errors import ModelError

SHORT_SIDE, LONG_SIDE = 800, 1333
"""What detectron2's zoo resizes frames to: the short side, unless the long one would pass its own limit."""

MEAN_BGR = (103.530, 116.280, 123.675)
STD_MSRA, STD_X101 = (1.0, 1.0, 1.0), (57.375, 57.120, 58.395)

SIDES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
DEPTHS = {6: (3, 4, 6, 3), 23: (3, 4, 23, 3)}
"""Blocks of each stage, by those of the third: ResNet-50 and ResNet-101."""

_NAMES = (
    (r"^backbone\.bottom_up\.", "backbone."),
    (r"^(backbone\.)stem\.", r"\1"),
    (r"^backbone\.(conv1|res\d)", r"backbone.body.\1"),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"^backbone\.fpn_lateral(\d)\.", lambda found: f"backbone.fpn.inner_blocks.{int(found[1]) - 2}.0."),
    (r"^backbone\.fpn_output(\d)\.", lambda found: f"backbone.fpn.layer_blocks.{int(found[1]) - 2}.0."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"^roi_heads\.box_head\.fc1\.", "roi_heads.box_head.fc6."),
    (r"^roi_heads\.box_head\.fc2\.", "roi_heads.box_head.fc7."),
    (r"^roi_heads\.res5\.", "roi_heads.box_head.0."),
    (r"\.res(\d)\.", lambda found: f".layer{int(found[1]) - 1}."),
)
"""detectron2's names on the left, torchvision's on the right, applied in this order."""

_UNUSED = re.compile(r"pixel_(mean|std)|proposal_generator\.anchor_generator\.|.*num_batches_tracked")


def open_detectron2(part: TeacherPart, classes: tuple[str, ...]) -> TorchTeacher:
    """Return the detector in `file`. Raises `ModelError`, which names the first tensor that is wrong."""
    if part.file is None:
        raise ModelError("teacher.file: name the checkpoint of detectron2's model zoo, e.g. model_final_f6e8b1.pkl")
    tensors = _read(part.file)
    try:
        model = build_detectron2(tensors)
    except ModelError as error:
        raise ModelError(f"{part.file}: {error}") from None
    names = part.names or COCO_80
    if (count := model.roi_heads.box_predictor.cls_score.out_features - 1) != len(names):
        raise ModelError(f"{part.file}: finds {count} classes; list their names in order as teacher.names")
    return Detectron2(model, names, part.batch, part.short_side or SHORT_SIDE)


class Detectron2(TorchTeacher):
    """One of detectron2's detectors, given frames as its zoo's settings say."""

    def __init__(self, model: FasterRCNN, names: tuple[str, ...], batch: int, short_side: int = SHORT_SIDE) -> None:
        super().__init__(model, names, batch, first=1)
        self._short_side = short_side

    def at(self, scale: float) -> Detectron2:
        """Return the same teacher at another size of its input."""
        other = object.__new__(Detectron2)
        other.__dict__ |= self.__dict__ | {"_short_side": round(self._short_side * scale)}
        return other

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the input's `(height, width)` for a frame, as detectron2's `ResizeShortestEdge` has it."""
        longest = self._short_side * LONG_SIDE / SHORT_SIDE
        scale = min(self._short_side / min(height, width), longest / max(height, width))
        return round(height * scale), round(width * scale)


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".pkl":
        return {name: torch.from_numpy(value) for name, value in read_arrays(file).items()}
    return read_weights(file)


def build_detectron2(tensors: Mapping[str, Tensor]) -> FasterRCNN:
    """Return torchvision's Faster R-CNN that computes what detectron2's does with a checkpoint's `tensors`.

    Images are `(3, H, W)` float in [0, 1], RGB; nothing is resized inside. Raises `ModelError` for tensors of another
    layout.
    """
    try:
        weights = _renamed(tensors)
        model = _c4(weights) if _is_c4(tensors) else _fpn(weights)
    except KeyError as error:
        raise ModelError(f"lacks tensor {error.args[0]}: is it a Faster R-CNN of detectron2's model zoo?") from None
    _normalise(model, tensors, weights)
    _load(model, weights)
    return model.eval()


def _is_c4(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("roi_heads.res5.") for name in tensors)


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by torchvision's names, in torchvision's order of classes and colours."""
    weights = {}
    for name, tensor in tensors.items():
        if not _UNUSED.fullmatch(name) and not _UNUSED.match(name):
            for pattern, instead in _NAMES:
                name = re.sub(pattern, instead, name)
            weights[name] = tensor.float()
    weights["backbone.body.conv1.weight"] = weights["backbone.body.conv1.weight"].flip(1)
    scores, deltas = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"
    for kind in (".weight", ".bias"):
        weights[scores + kind] = weights[scores + kind].roll(1, 0)  # torchvision's background comes first
        none = torch.zeros_like(weights[deltas + kind][:4])
        weights[deltas + kind] = torch.cat([none, weights[deltas + kind]])
    return weights


def _trunk(weights: Mapping[str, Tensor]) -> resnet.ResNet:
    """Return the ResNet or ResNeXt whose tensors these are, without weights."""
    blocks = sum(bool(re.fullmatch(r"backbone\.body\.layer3\.\d+\.conv1\.weight", name)) for name in weights)
    if blocks not in DEPTHS:
        raise ModelError(f"its third stage has {blocks} blocks; those of ResNet-50 and ResNet-101 have 6 and 23")
    wide, narrow = weights["backbone.body.layer1.0.conv2.weight"].shape[:2]
    trunk = resnet.ResNet(
        resnet.Bottleneck,
        list(DEPTHS[blocks]),
        groups=wide // narrow,
        width_per_group=narrow,
        norm_layer=FrozenBatchNorm2d,
    )
    if wide == narrow:
        _stride_first((trunk.layer2, trunk.layer3, trunk.layer4))
    return trunk


def _stride_first(stages: Sequence[Any]) -> None:
    """Move each stage's stride into its first 1x1 convolution, as MSRA's ResNets have it."""
    for stage in stages:
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def _fpn(weights: Mapping[str, Tensor]) -> FasterRCNN:
    width = len(weights["backbone.fpn.layer_blocks.0.0.weight"])
    backbone = BackboneWithFPN(
        _trunk(weights), {f"layer{i}": str(i - 1) for i in range(1, 5)}, [256, 512, 1024, 2048], width
    )
    head = TwoMLPHead(width * 49, len(weights["roi_heads.box_head.fc6.weight"]))
    anchors = _Anchors(tuple((side,) for side in SIDES), (RATIOS,) * len(SIDES))
    return _assemble(backbone, anchors, _Pooler(("0", "1", "2", "3"), 7), head, weights, before=1000)


def _c4(weights: Mapping[str, Tensor]) -> FasterRCNN:
    """Return the older layout: proposals on the third stage, and the fourth one as the box head."""
    trunk = _trunk(weights)
    backbone: Any = nn.Module()
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    body = nn.Sequential(OrderedDict((name, getattr(trunk, name)) for name in names))
    backbone = nn.Sequential(OrderedDict(body=body))
    backbone.out_channels = 1024
    head = nn.Sequential(trunk.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return _assemble(backbone, _Anchors((SIDES,), (RATIOS,)), _Pooler(("0",), 14), head, weights, before=6000)


def _assemble(
    backbone: nn.Module,
    anchors: AnchorGenerator,
    pooler: nn.Module,
    head: nn.Module,
    weights: Mapping[str, Tensor],
    before: int,
) -> FasterRCNN:
    score = weights["roi_heads.box_predictor.cls_score.weight"]
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(backbone.out_channels, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_test=before,
        rpn_post_nms_top_n_test=1000,
        box_roi_pool=pooler,
        box_head=head,
        box_predictor=FastRCNNPredictor(score.shape[1], len(score)),
        box_score_thresh=0.05,
    )


def _normalise(model: FasterRCNN, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Give the model detectron2's mean and deviation, as RGB in [0, 1]."""
    wide, narrow = weights["backbone.body.layer1.0.conv2.weight"].shape[:2]
    std: Any = STD_MSRA if wide == narrow else STD_X101
    mean: Any = MEAN_BGR
    if "pixel_mean" in tensors and "pixel_std" in tensors:
        mean, std = (tensors[name].flatten().tolist() for name in ("pixel_mean", "pixel_std"))
    scaled = [[value / 255 for value in reversed(values)] for values in (mean, std)]
    model.transform = _AsGiven(min_size=1, max_size=1, image_mean=scaled[0], image_std=scaled[1])


def _load(model: FasterRCNN, weights: Mapping[str, Tensor]) -> None:
    wanted = model.state_dict()
    for name in sorted(wanted.keys() ^ weights.keys()):
        raise ModelError(f"{'lacks' if name in wanted else 'has an unknown'} tensor {name}, by torchvision's names")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
            raise ModelError(f"tensor {name}, by torchvision's names, has shape {shapes}")
    model.load_state_dict(dict(weights))


class _AsGiven(GeneralizedRCNNTransform):
    """torchvision's own transform always resizes in evaluation mode; here that is done already."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class _Anchors(AnchorGenerator):
    """detectron2's anchors: one side after the other, and not rounded to whole pixels."""

    def generate_anchors(
        self,
        scales: Any,
        aspect_ratios: Any,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        boxes = []
        for side in scales:
            for ratio in aspect_ratios:
                width = math.sqrt(side * side / ratio)
                height = ratio * width
                boxes.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(boxes, dtype=dtype, device=device)


class _Pooler(MultiScaleRoIAlign):
    """detectron2's RoIAlign: half a pixel further up and left, and as many samples as a bin has pixels."""

    def __init__(self, levels: tuple[str, ...], size: int) -> None:
        super().__init__(list(levels), size, 0)
        self._levels = levels
        self._size = size

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return `(R, C, size, size)` for all boxes `(N, 4)` of each image."""
        maps = [x[name] for name in self._levels]
        rois = torch.cat([nn.functional.pad(one, (1, 0), value=float(n)) for n, one in enumerate(boxes)])
        levels = self._level(rois[:, 1:])
        pooled = rois.new_zeros(len(rois), maps[0].shape[1], self._size, self._size)
        for number, one in enumerate(maps):
            rows = torch.where(levels == number)[0]
            stride = 2 ** (number + 2) if len(maps) > 1 else 16
            pooled[rows] = roi_align(one, rois[rows], self._size, 1 / stride, 0, aligned=True).to(pooled.dtype)
        return pooled

    def _level(self, boxes: Tensor) -> Tensor:
        """Return which map each box `(N, 4)` is looked up in."""
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(CANONICAL_LEVEL + torch.log2(area.sqrt() / CANONICAL_SIDE + 1e-8))
        return level.clamp(2, len(self._levels) + 1).long() - 2
