"""Kind `torchvision`: any of its detection builders, with a weights file or what torchvision itself has downloaded.

    [teacher]
    kind = "torchvision"
    builder = "fasterrcnn_resnet50_fpn_v2"
    file = "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"   # or leave it out: torchvision's own cache

Nothing is downloaded here. Without `builder` the file's name tells it, where it begins as torchvision's own do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection as builders
from torchvision.models import get_model_builder, get_model_weights, list_models

from culling.cloud.model.coco import BACKGROUND, COCO_91
from culling.cloud.model.weights import read_tensors
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.bundled import TorchTeacher
from culling.common.errors import ModelError, SettingsError


def open_torchvision(part: TeacherPart, classes: tuple[str, ...]) -> TorchTeacher:
    """Return the detector that `builder` makes, with the weights in `file`.

    Raises `SettingsError` for a builder that there is not, `ModelError` for weights that are missing or do not fit.
    """
    builder = part.builder or _told_by_name(part.file)
    if builder not in list_models(builders):
        raise SettingsError(
            f"teacher.builder: torchvision has no detector {builder!r}; it has {', '.join(list_models(builders))}"
        )
    file = part.file or _cached(builder)
    tensors = read_weights(file)
    model = _fitting(builder, tensors, len(part.names) or len(COCO_91), file)
    _resize(model, part.short_side)
    return TorchTeacher(model, _names(part, model), part.batch)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors in a `.safetensors` file, or in one of torch's that holds nothing but tensors.

    Raises `ModelError` for any other.
    """
    if file.suffix == ".safetensors":
        return read_tensors(file)[0]
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    except Exception as error:  # torch's errors share no base: a pickle of anything else is one of them
        raise ModelError(f"{file}: holds no plain weights: {str(error).splitlines()[0]}") from None
    held = held.get("model", held) if isinstance(held, dict) else held
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ModelError(f"{file}: holds no plain weights: expected a table of tensors by name")
    return held


def _told_by_name(file: Path | None) -> str:
    """Return the longest builder's name that the file's begins with."""
    stem = file.name if file else ""
    found = [name for name in list_models(builders) if stem.startswith((f"{name}_coco", f"{name}."))]
    if not found:
        raise SettingsError(
            "teacher.builder: say which of torchvision's detectors this is, e.g. fasterrcnn_resnet50_fpn_v2"
        )
    return str(max(found, key=len))


def _cached(builder: str) -> Path:
    """Return the file that torchvision keeps when it has downloaded a builder's weights."""
    url = str(get_model_weights(builder).DEFAULT.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise ModelError(
            f"{path}: {builder}'s weights are not in torchvision's cache: put {path.name} there, or name it as "
            "teacher.file; nothing is downloaded by itself"
        )
    return path


def _fitting(builder: str, tensors: dict[str, Tensor], classes: int, file: Path) -> nn.Module:
    """Return the builder's model for `classes`, or for one more: the background, where the model has one."""
    problem = ""
    for count in (classes, classes + 1):
        model: nn.Module = get_model_builder(builder)(weights=None, weights_backbone=None, num_classes=count)
        problem = _misfit(model, tensors)
        if not problem:
            model.load_state_dict(tensors, strict=False)
            return model.eval()
    raise ModelError(f"{file}: {problem}: are these {builder}'s weights, and is teacher.names what they were made for?")


def _misfit(model: nn.Module, tensors: dict[str, Tensor]) -> str:
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    for name in sorted(wanted.keys() ^ given.keys()):
        return f"{'lacks' if name in wanted else 'has an unknown'} tensor {name}"
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            return f"tensor {name} has shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
    return ""


def _names(part: TeacherPart, model: Any) -> tuple[str, ...]:
    """Return what each label means, the background's too where the model has one."""
    if not part.names:
        return COCO_91
    return (BACKGROUND, *part.names) if _classes(model) == len(part.names) + 1 else part.names


def _classes(model: Any) -> int:
    if hasattr(model, "roi_heads"):
        return int(model.roi_heads.box_predictor.cls_score.out_features)
    head = model.head.classification_head
    return int(getattr(head, "num_classes", 0) or head.num_columns)


def _resize(model: Any, short_side: int | None) -> None:
    if short_side is None:
        return
    transform = model.transform
    if transform.fixed_size is not None:
        raise SettingsError(f"teacher.short_side: this detector's input is always {transform.fixed_size}; leave it out")
    transform.max_size = round(transform.max_size * short_side / transform.min_size[0])
    transform.min_size = (short_side,)
