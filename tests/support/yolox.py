"""An untrained YOLOX that is quick to make and to run."""

from __future__ import annotations

import torch

from culling.cloud.model.yolox.network import Yolox, YoloxSpec
from culling.cloud.weights.classes import CLASSES

SMALL = YoloxSpec(width=8, depth=1, depthwise=True)


def small_yolox(seed: int = 0, classes: int = len(CLASSES), spec: YoloxSpec = SMALL) -> Yolox:
    """Return one with random weights, whose scores and boxes nevertheless differ from place to place."""
    torch.manual_seed(seed)
    model = Yolox(spec, classes).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.5
    for level in model.head.levels:
        for score in (level.classes, level.object):  # type: ignore[union-attr]
            score.bias.data.zero_()  # type: ignore[union-attr,operator]
    return model
