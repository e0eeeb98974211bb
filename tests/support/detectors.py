"""Untrained detectors that are quick to make and to run, and pictures for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.faster_rcnn.network import STUDENT, build
from culling.cloud.weights.classes import CLASSES

SMALL_STUDENT = replace(STUDENT, fpn_width=16, head_width=32, stem_width=16)


def small_student(seed: int = 0, classes: tuple[str, ...] = CLASSES) -> FasterRCNN:
    """Return a narrow student with random weights, whose scores and boxes nevertheless differ from place to place."""
    torch.manual_seed(seed)
    model = build(SMALL_STUDENT, classes).eval()
    for layer in (model.rpn.head.cls_logits, model.rpn.head.bbox_pred):
        layer.weight.data *= 20
    for layer in (model.roi_heads.box_predictor.cls_score, model.roi_heads.box_predictor.bbox_pred):
        layer.weight.data *= 10
    return model


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture `(height, width, 3)` of a dozen plain blocks on a noisy ground."""
    rng = np.random.default_rng(seed)
    frame = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    for _ in range(12):
        top, left = int(rng.integers(0, height - 8)), int(rng.integers(0, width - 8))
        bottom, right = top + int(rng.integers(8, height // 2)), left + int(rng.integers(8, width // 2))
        frame[top:bottom, left:right] = rng.integers(0, 256, 3)
    return frame
