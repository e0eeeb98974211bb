"""Weights of a detector as safetensors: fp16, or int8 per output channel; never pickled, checked before they are used.

An int8 matrix or kernel `name` comes with `name.scale`, one float32 per output channel: `w = name * name.scale`.
Vectors (norms, biases) stay float32: they are small, and a variance can exceed what fp16 holds. The bundled pair lies
in `cloud/weights`, with the sha256 of each file in `index.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from culling.cloud.model.family import family_named, family_of
from culling.cloud.weights.classes import CLASSES
from culling.cloud.weights.index import (
    BUNDLED,
    INDEX,
    REFERENCE,
    Bundled,
    Format,
    Kind,
    file_hash,
    read_index,
)
from culling.common.atomic import write_atomic
from culling.common.errors import ModelError
from culling.common.wire.classes import check_classes

_COUNTER = "num_batches_tracked"
_SCALE = ".scale"


def save_weights(path: Path, model: nn.Module, form: Format, classes: tuple[str, ...] = CLASSES) -> None:
    """Write the weights of `model` to `path`, atomically. Raises `ModelError` if one is not finite in that format."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not name.endswith(_COUNTER):
            tensors |= _packed(name, tensor.detach().cpu().float().contiguous(), form)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: tensor {name} is not finite as {form}")
    family = family_of(model)
    kind: Kind = "student" if family.student(model) else "teacher"
    told = {"kind": kind, "family": family.name, "classes": ",".join(classes), "format": form}
    write_atomic(path, save(tensors, told))


def load_weights(path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the detector whose weights `path` holds, on the CPU in evaluation mode, and its classes.

    The file names its family, and its tensors tell the dimensions. Raises `ModelError` for a file that is missing,
    truncated, not safetensors, or of another architecture, naming the first tensor that is wrong.
    """
    tensors, metadata = read_tensors(path)
    try:
        classes = check_classes(metadata["classes"].split(",")) if "classes" in metadata else CLASSES
    except ValueError as error:
        raise ModelError(f"{path}: its classes are no list of classes: {error}") from None
    for name, tensor in tensors.items():
        if not tensor.numel():
            raise ModelError(f"{path}: tensor {name} is empty")
    family = family_named(metadata.get("family", REFERENCE))
    try:
        with _Undrawn():
            model = family.build(tensors, classes)
    except (RuntimeError, ValueError) as error:  # a width that no memory holds
        raise ModelError(f"{path}: cannot be built ({str(error).splitlines()[0]}): another architecture?") from None
    _check(path, tensors, model)
    model.load_state_dict(tensors, strict=False)
    return model.eval(), classes


def load_student(
    path: Path, family: str | None = None, classes: tuple[str, ...] = CLASSES
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a student, as `load_weights` does; of `family` if given, which may also read it from ONNX, for `classes`.

    Raises `ModelError` for a teacher too, and for a student of another family.
    """
    if path.suffix == ".onnx" and family is not None:
        wanted = family_named(family)
        if wanted.read is None:
            raise ModelError(f"{path}: students of the family {family} start from safetensors, not from ONNX")
        return wanted.read(path, classes), classes
    model, classes = load_weights(path)
    found = family_of(model)
    if not found.student(model):
        raise ModelError(f"{path}: holds a teacher's weights; a student's are needed")
    if family not in (None, found.name):
        raise ModelError(f"{path}: is a student of the family {found.name}, expected {family} (student.family)")
    return model, classes


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a weights file as float32, and its metadata. Raises `ModelError` naming the file."""
    try:
        with safe_open(path, "pt") as file:
            metadata, stored = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not readable as safetensors ({str(error).splitlines()[0]})") from None
    return {name: _unpacked(name, stored) for name in stored if not name.endswith((_SCALE, _COUNTER))}, metadata


def read_family(path: Path) -> str:
    """Return the family that a weights file names. Raises `ModelError` naming the file."""
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get("family", REFERENCE))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not readable as safetensors ({str(error).splitlines()[0]})") from None


def load_bundled(kind: Kind, folder: Path = BUNDLED, family: str = REFERENCE) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the student or teacher of a family that comes with Culling, and its classes.

    Raises `ModelError` if there is none, or the file is not the one that the index names.
    """
    for name, entry in read_index(folder).items():
        if (entry.kind, entry.family) == (kind, family):
            path = folder / name
            if file_hash(path) != entry.sha256:
                raise ModelError(f"{path}: differs from its sha256 in {INDEX}; fetch or install it again")
            return load_weights(path)
    family_named(family)
    raise ModelError(f"{folder / INDEX}: names no {kind} of the family {family}; name a file of your own")


def write_index(folder: Path = BUNDLED) -> dict[str, Bundled]:
    """Write and return the index of every weights file in `folder`, as saved by `save_weights`."""
    entries = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            row = {"family": REFERENCE} | file.metadata() | {"sha256": file_hash(path), "bytes": path.stat().st_size}
        entries[path.name] = msgspec.convert(row | {"classes": row["classes"].split(",")}, Bundled)
    write_atomic(folder / INDEX, msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")
    return entries


def _packed(name: str, tensor: Tensor, form: Format) -> dict[str, Tensor]:
    if tensor.dim() < 2:
        return {name: tensor}
    if form == "fp16":
        return {name: tensor.half()}
    scale = (tensor.flatten(1).abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return {name: (tensor / _spread(scale, tensor)).round().to(torch.int8), name + _SCALE: scale}


def _unpacked(name: str, stored: dict[str, Tensor]) -> Tensor:
    tensor, scale = stored[name], stored.get(name + _SCALE)
    if scale is None or scale.dim() != 1 or len(scale) != len(tensor):
        return tensor if tensor.dtype == torch.int8 else tensor.float()
    return tensor.float() * _spread(scale, tensor)


def _spread(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.dim() - 1))


class _Undrawn(TorchFunctionMode):
    """Layers made in here keep what the memory held: drawing weights that a file replaces takes a third of the time."""

    _DRAWS = (nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_, Tensor.normal_, Tensor.uniform_)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _check(path: Path, tensors: dict[str, Tensor], model: nn.Module) -> None:
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(_COUNTER)}
    for name in sorted(wanted.keys() ^ tensors.keys()):
        raise ModelError(
            f"{path}: {'lacks' if name in wanted else 'has an unknown'} tensor {name}: another architecture?"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
            raise ModelError(f"{path}: tensor {name} has shape {shapes}: another architecture")
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: tensor {name} has no scale, or values that are not numbers")
