"""A new student's weights in the graph of an earlier one, which saves the minutes that an export takes.

They go into tracing the student twice with symbolic sizes and into rewriting the graph, all in Python on one core, and
none of that depends on the weights.

Students of one shape differ in their weights alone. So do their graphs, once every norm is folded into the convolution
before it, since the exporter then keeps each tensor under its own name. The result is not trusted for that: it has to
pass the same parity check as any export.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import structlog
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from culling.cloud.model.export import Parity, check_parity, export_student, parity_sizes
from culling.cloud.model.family import family_of
from culling.common.errors import ModelError
from culling.common.graph import CLASSES_KEY
from culling.common.progress import Say, say_nothing
from culling.common.scaler import LONG_SIDE

log = structlog.get_logger(__name__)


def export_refillable(model: nn.Module, classes: tuple[str, ...]) -> bytes:
    """Return `model` as ONNX, in a form that `refill` takes as `template`. Raises ModelError as `export_student`."""
    distinct = family_of(model).fold(model)
    with torch.no_grad():
        for number, parameter in enumerate(distinct.parameters()):
            parameter.uniform_(number, number + 1)  # the exporter merges tensors of equal values
    filled = refill(export_student(distinct, classes), model, classes)
    if filled is None:
        raise ModelError("the exported graph does not hold the student's tensors under their own names")
    return filled


def refill(template: bytes, model: nn.Module, classes: Sequence[str]) -> bytes | None:
    """Return `template` with the weights of `model` and its classes; None if it was not made by `export_refillable` for
    that shape.
    """
    proto = onnx.load_model_from_string(template)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in _weights(model).items():
        if name not in tensors or tuple(tensors[name].dims) != tuple(value.shape):
            return None
        tensors[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))
    told = {entry.key: entry.value for entry in proto.metadata_props} | {CLASSES_KEY: ",".join(classes)}
    helper.set_model_props(proto, told)
    return bytes(proto.SerializeToString())


def outline(template: bytes, model: nn.Module) -> bytes:
    """Return a template without the weights that `refill` puts into it, small enough to be carried along."""
    proto, names = onnx.load_model_from_string(template), _weights(model).keys()
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
    return bytes(proto.SerializeToString())


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors by which graphs of one shape differ, under their names there."""
    family = family_of(model)
    tensors = family.graph(family.fold(model)).state_dict()
    return {name: tensor for name, tensor in tensors.items() if tensor.dim() and name not in ("mean", "std")}


def export_proven(
    templates: Iterable[bytes],
    model: nn.Module,
    classes: tuple[str, ...],
    frames: Sequence[NDArray[np.uint8]],
    say: Say = say_nothing,
    long_side: int = LONG_SIDE,
) -> tuple[bytes, Parity]:
    """Return `model` as ONNX, and how the two agree on `frames`, each `(H, W, 3)` RGB, at sizes of that `long_side`.

    The first of `templates` that fits is refilled if the result agrees with the model, else the model is exported.
    Raises ModelError if that does not agree either.
    """
    sizes = parity_sizes(long_side)
    filled = (refill(template, model, classes) for template in templates)
    if (data := next((each for each in filled if each is not None), None)) is not None:
        say("comparing the graph with the weights")
        try:
            return data, check_parity(model, data, frames, sizes)
        except ModelError as error:  # another version of this program made the template, for example
            log.warning("refill_failed", error=str(error))
    say("tracing the student into a graph: a minute or more, once for students of its shape")
    data = export_refillable(model, classes)
    say("comparing the graph with the weights")
    return data, check_parity(model, data, frames, sizes)
