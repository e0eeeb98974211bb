"""The two detectors: a lean ResNet-18 student and torchvision's ResNet-101-FPN teacher, both Faster R-CNN.

Both always keep BatchNorm in evaluation mode: a round trains on a few frames at a time, whose batch statistics
would ruin the running ones. The affine parts still learn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from culling.cloud.weights.classes import CLASSES

ANCHOR_SIDES = (16, 32, 64, 128, 256)
"""One anchor side per FPN level in input pixels; half of torchvision's, since fixed cameras see small objects."""

STEM_WIDTH = 64
"""Channels of the stem in torchvision's ResNets, and in all published weights of them."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN, CAFFE_STD = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)
"""The input that each trunk's weights were trained on: the ResNet-50 ones come in Caffe's layout."""


class FixedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose running statistics never move, also in training mode."""

    def train(self, mode: bool = True) -> FixedBatchNorm2d:
        super().train(False)
        return self


@dataclass(frozen=True)
class DetectorSpec:
    """The dimensions of one detector: trunk depth (18, 50 or 101), FPN width, box-head width, proposals per frame, and
    channels of the trunk's stem, 64 in all published weights.
    """

    depth: int
    fpn_width: int
    head_width: int
    proposals: int
    stem_width: int = STEM_WIDTH


STUDENT = DetectorSpec(depth=18, fpn_width=96, head_width=512, proposals=100)
TEACHER = DetectorSpec(depth=101, fpn_width=128, head_width=1024, proposals=300)


def build(spec: DetectorSpec, classes: tuple[str, ...] = CLASSES) -> FasterRCNN:
    """Return an untrained Faster R-CNN for `spec`; label 0 is background, label i + 1 is `classes[i]`.

    Images are `(3, H, W)` float in [0, 1], RGB, H and W multiples of `scaler.STRIDE`; nothing is resized inside.
    """
    trunk = _trunk(spec.depth, spec.stem_width)
    width = trunk.inplanes // 8
    backbone = BackboneWithFPN(
        trunk,
        return_layers={f"layer{i}": str(i - 1) for i in range(1, 5)},
        in_channels_list=[width, width * 2, width * 4, width * 8],
        out_channels=spec.fpn_width,
    )
    model = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIDES), ((0.5, 1.0, 2.0),) * len(ANCHOR_SIDES)),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=spec.proposals * 2,
        rpn_post_nms_top_n_test=spec.proposals,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(spec.fpn_width * 49, spec.head_width),
        box_predictor=FastRCNNPredictor(spec.head_width, len(classes) + 1),
        box_batch_size_per_image=96,
        box_score_thresh=0.02,
        box_nms_thresh=0.5,
        box_detections_per_img=100,
    )
    mean, std = (CAFFE_MEAN, CAFFE_STD) if spec.depth > 34 else (IMAGENET_MEAN, IMAGENET_STD)
    model.transform = _NormaliseOnly(min_size=1, max_size=1, image_mean=list(mean), image_std=list(std))
    return model


class _NormaliseOnly(GeneralizedRCNNTransform):
    """torchvision's own transform always resizes in evaluation mode; here the caller has done that already."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class _Trunk(resnet.ResNet):
    """A ResNet of another stem width than torchvision's; each stage is as much narrower or wider."""

    def __init__(self, block: Any, counts: list[int], stem_width: int) -> None:
        self._stem_width = stem_width
        super().__init__(block, counts, norm_layer=FixedBatchNorm2d)
        self.conv1 = nn.Conv2d(3, stem_width, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = FixedBatchNorm2d(stem_width)

    def _make_layer(self, block: Any, planes: int, *more: Any, **named: Any) -> nn.Sequential:
        if planes == STEM_WIDTH:
            self.inplanes = self._stem_width
        layer: nn.Sequential = super()._make_layer(block, planes * self._stem_width // STEM_WIDTH, *more, **named)
        return layer


def _trunk(depth: int, stem_width: int) -> resnet.ResNet:
    layers: dict[int, tuple[Any, list[int]]] = {
        18: (resnet.BasicBlock, [2, 2, 2, 2]),
        50: (resnet.Bottleneck, [3, 4, 6, 3]),
        101: (resnet.Bottleneck, [3, 4, 23, 3]),
    }
    block, counts = layers[depth]
    if stem_width == STEM_WIDTH:
        trunk = resnet.ResNet(block, counts, norm_layer=FixedBatchNorm2d)
    else:
        trunk = _Trunk(block, counts, stem_width)
    if block is resnet.Bottleneck:
        _stride_first(trunk)
    return trunk


def _stride_first(trunk: resnet.ResNet) -> None:
    """Move each stage's stride into its first 1x1 convolution: the layout the ResNet-50 weights were trained in."""
    for stage in (trunk.layer2, trunk.layer3, trunk.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def is_student(model: FasterRCNN) -> bool:
    """Return whether a detector's trunk is one that runs at the edge, rather than a teacher's."""
    return isinstance(model.backbone.body.layer1[0], resnet.BasicBlock)


def freeze(model: FasterRCNN, stages: int) -> None:
    """Freeze the stem and the first `stages` stages of the trunk; everything else learns."""
    body = model.backbone.body
    for name, parameter in body.named_parameters():
        stage = int(name[5]) if name.startswith("layer") else 0
        parameter.requires_grad_(stage > stages)


def load_resnet18(model: FasterRCNN, weights: dict[str, Tensor]) -> None:
    """Start a student's trunk from ImageNet weights; its BatchNorm statistics must be re-estimated afterwards."""
    model.backbone.body.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")}, strict=True)


def load_resnet50(model: FasterRCNN, weights: dict[str, Tensor]) -> None:
    """Start a ResNet-50 or ResNet-101 trunk from Caffe-layout ResNet-50 weights.

    BGR input is folded into the first convolution; the mean lives in the model.
    """
    trunk = {k: v.float() for k, v in weights.items() if not k.startswith("fc.")}
    trunk["conv1.weight"] = trunk["conv1.weight"].flip(1)
    body = model.backbone.body
    body.load_state_dict(deepen(trunk, body.state_dict()), strict=True)


def deepen(shallow: dict[str, Tensor], deep: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `shallow`'s tensors with those that only `deep` has: ResNet-50 (detector or trunk) grown to ResNet-101.

    The 17 blocks that ResNet-50's third stage lacks become identities: scale and shift of their last norm are zero,
    so the deeper network computes exactly what the shallower one does until training moves it. Their convolutions
    are copies of the last block that exists.
    """
    grown = dict(shallow)
    for name in deep.keys() - shallow.keys():
        if name.endswith("num_batches_tracked"):  # weights files leave it out, and nothing here reads it
            grown[name] = deep[name]
            continue
        source = shallow[re.sub(r"layer3\.\d+\.", "layer3.5.", name)]
        identity = name.endswith(("bn3.weight", "bn3.bias"))
        grown[name] = torch.zeros_like(source) if identity else source.clone()
    return grown


@torch.no_grad()
def reestimate_statistics(model: FasterRCNN, batches: list[Tensor]) -> None:
    """Replace the trunk's BatchNorm statistics by the means over `batches`, each `(B, 3, H, W)` float in [0, 1]."""
    norms = [m for m in model.backbone.body.modules() if isinstance(m, FixedBatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.transform.image_mean, model.transform.image_std))
    for batch in batches:
        model.backbone.body((batch - mean) / std)
    for norm in norms:
        norm.momentum, norm.training = 0.1, False
