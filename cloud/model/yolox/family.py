"""What makes YOLOX a family of students."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from culling.cloud.model.family import Family
from culling.cloud.model.yolox.graph import FLOOR, MOST, YoloxGraph, find
from culling.cloud.model.yolox.loss import yolox_loss
from culling.cloud.model.yolox.network import NANO, Yolox, YoloxSpec
from culling.cloud.model.yolox.read import read_yolox, with_classes


def freeze(model: Yolox, stages: int) -> None:
    """Freeze the stem and the first `stages` stages of the trunk; everything else learns."""
    for name, parameter in model.trunk.named_parameters():
        stage = int(name[5]) - 1 if name.startswith("stage") else 0
        parameter.requires_grad_(stage > stages)


def _build(tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> Yolox:
    """Return a model of the size that the tensors show, or of nano where they show none."""
    stem = tensors.get("trunk.stem.weight")
    blocks = {name.split(".")[4] for name in tensors if name.startswith("trunk.stage2.1.blocks.")}
    spec = YoloxSpec(
        width=len(stem) if stem is not None and stem.dim() else NANO.width,
        depth=len(blocks) or NANO.depth,
        depthwise="trunk.stage2.0.weight" not in tensors,
    )
    return Yolox(spec, len(classes))


YOLOX = Family(
    name="yolox",
    kind=Yolox,
    build=_build,
    classes=lambda model: model.classes,
    loss=yolox_loss,
    find=find,
    graph=YoloxGraph,
    fold=lambda model: copy.deepcopy(model).cpu().eval(),
    pyramid=lambda model: model.pyramid,
    freeze=freeze,
    relist=lambda model, names, classes: with_classes(model, classes, names),
    read=read_yolox,
    cut=lambda model: (FLOOR, MOST),
    rate=0.05,
)
