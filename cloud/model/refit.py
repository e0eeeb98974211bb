"""A new student's weights in the graph of an earlier one, which saves the minute that an export takes.

Students of one shape differ in their weights alone. So do their graphs, once every norm is folded into the convolution
before it, since the exporter then keeps each tensor under its own name. The result is not trusted for that: it has to
pass the same parity check as any export.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
import structlog
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import Parity, StudentGraph, check_parity, export_student
from culling.common.errors import ModelError

log = structlog.get_logger(__name__)


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


def export_refillable(model: FasterRCNN, classes: tuple[str, ...]) -> bytes:
    """Return `model` as ONNX, in a form that `refill` takes as `template`. Raises ModelError as `export_student`."""
    distinct = fold_norms(model)
    with torch.no_grad():
        for number, parameter in enumerate(distinct.parameters()):
            parameter.uniform_(number, number + 1)  # the exporter merges tensors of equal values
    filled = refill(export_student(distinct, classes), model)
    if filled is None:
        raise ModelError("the exported graph does not hold the student's tensors under their own names")
    return filled


def refill(template: bytes, model: FasterRCNN) -> bytes | None:
    """Return `template` with the weights of `model`; None if it was not made by `export_refillable` for that shape."""
    proto = onnx.load_model_from_string(template)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    numbers = StudentGraph(fold_norms(model)).state_dict()
    for name, value in numbers.items():
        if value.dim() == 0 or name in ("mean", "std"):
            continue
        if name not in tensors or tuple(tensors[name].dims) != tuple(value.shape):
            return None
        tensors[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))
    return bytes(proto.SerializeToString())


def export_proven(
    template: bytes, model: FasterRCNN, classes: tuple[str, ...], frames: Sequence[NDArray[np.uint8]]
) -> tuple[bytes, Parity]:
    """Return `model` as ONNX, and how the two agree on `frames`, each `(H, W, 3)` RGB.

    `template` is refilled if the result agrees with the model, else the model is exported. Raises ModelError if that
    does not agree either.
    """
    if (data := refill(template, model)) is not None:
        try:
            return data, check_parity(model, data, frames)
        except ModelError as error:  # another version of this program made the template, for example
            log.warning("refill_failed", error=str(error))
    data = export_refillable(model, classes)
    return data, check_parity(model, data, frames)
