"""A YOLOX from an ONNX file, as its authors and many others publish it (Apache-2.0), for the classes of a camera.

Exporters fold the norms and rename what they fold, so tensors are told by the order of the convolutions, which is that
of the computation, and by their shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from culling.cloud.model.coco import COCO_80
from culling.cloud.model.yolox.network import NANO, TINY, Yolox, YoloxSpec
from culling.common.errors import ModelError
from culling.common.wire.messages import MAX_MODEL

SIZES = {"nano": NANO, "tiny": TINY}


def read_yolox(path: Path, classes: Sequence[str], names: Sequence[str] = COCO_80) -> Yolox:
    """Return the detector in the ONNX file at `path`, whose rows are `names`, as one that finds `classes`.

    Rows of known names are kept, those of others start anew. Raises ModelError for a file that is no YOLOX of a
    known size, naming the first tensor that is wrong.
    """
    found = list(_convolutions(path))
    spec = _size(path, found)
    model = Yolox(spec, len(names)).eval()
    modules = _in_order(model)
    if len(found) != len(modules):
        raise ModelError(f"{path}: has {len(found)} convolutions, a YOLOX of this size {len(modules)}")
    with torch.no_grad():
        for (name, module), (weight, bias) in zip(modules, found, strict=True):
            for ours, theirs in ((module.weight, weight), (module.bias, bias)):
                if ours is None or ours.shape != theirs.shape:
                    wanted = None if ours is None else tuple(ours.shape)
                    raise ModelError(f"{path}: convolution {name} has shape {tuple(theirs.shape)}, expected {wanted}")
                ours.copy_(theirs)
    return with_classes(model, classes, names)


def with_classes(model: Yolox, classes: Sequence[str], names: Sequence[str]) -> Yolox:
    """Return `model`, whose classes are `names`, as one of `classes`: rows of known names are kept.

    Those of others start with no weight, at the prior of a new class: the same every time, so that it is exported once.
    """
    other = Yolox(model.spec, len(classes)).eval()
    kept = {name: tensor for name, tensor in model.state_dict().items() if ".classes." not in name}
    other.load_state_dict(kept, strict=False)
    known = [(row, names.index(name)) for row, name in enumerate(classes) if name in names]
    ours, theirs = other.state_dict(), model.state_dict()
    for name in ours.keys() - kept.keys():
        if name.endswith(".weight"):
            ours[name].zero_()
        for row, at in known:
            ours[name][row] = theirs[name][at]
    return other


def _convolutions(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight and bias of every convolution, in the order in which they are computed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_MODEL:
        raise ModelError(f"{path}: has {len(data)} bytes, at most {MAX_MODEL} are allowed")
    try:
        graph = onnx.load_model_from_string(data).graph
    except Exception:  # protobuf's DecodeError, or a bare ValueError, by version
        raise ModelError(f"{path}: is not ONNX") from None
    tensors: Mapping[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        try:
            weight, bias = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        except (KeyError, ValueError, TypeError):
            raise ModelError(f"{path}: convolution {node.name!r} has no weight and bias of its own") from None
        yield torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())


def _size(path: Path, found: Sequence[tuple[Tensor, Tensor]]) -> YoloxSpec:
    if len(found) > 1:
        width, depthwise = len(found[0][0]), found[1][0].shape[1] == 1
        for spec in SIZES.values():
            if (spec.width, spec.depthwise) == (width, depthwise):
                return spec
    raise ModelError(f"{path}: is no YOLOX of a known size ({', '.join(SIZES)})")


def _in_order(model: Yolox) -> list[tuple[str, nn.Conv2d]]:
    """Return the convolutions of a model, with their names, in the order in which they are computed."""
    names = {module: name for name, module in model.named_modules()}
    order: list[tuple[str, nn.Conv2d]] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append((names[module], module)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return order
