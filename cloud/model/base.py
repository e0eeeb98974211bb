"""The base model: what every camera starts with, as a graph that can be published.

Exporting takes most of a minute, so it is done once for given weights; the result is kept in `base/`, with a golden
frame from the bundled clip.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import check_parity
from culling.cloud.model.golden import golden_frame
from culling.cloud.model.refit import export_refillable
from culling.cloud.model.weights import load_bundled, load_student, load_weights, save_weights
from culling.cloud.settings import CloudSettings
from culling.cloud.store.registry import Artefact, ModelFiles
from culling.common.atomic import write_atomic
from culling.common.errors import ModelError
from culling.common.frame import CLASSES
from culling.common.graph import open_graph
from culling.common.scaler import LONG_SIDE
from culling.common.video import BUNDLED_CLIP, read_frames


def base_artefact(settings: CloudSettings, files: ModelFiles) -> Artefact:
    """Return the student of `[student] weights`, exported and proven equal to its weights.

    Raises ModelError when the weights cannot be used, or find other classes than `CLASSES`.
    """
    wanted = settings.student.weights
    model, classes = load_bundled("student") if wanted == "bundled" else load_student(Path(wanted))
    if classes != CLASSES:
        raise ModelError(f"the student finds {', '.join(classes)}; expected {', '.join(CLASSES)}")
    known = settings.data_dir / "base" / f"{_fingerprint(model)}.json"
    long_side = settings.student.long_side
    if (artefact := _known(known, files)) is None:
        known.parent.mkdir(exist_ok=True)
        artefact = _export(model, classes, known.with_suffix(".safetensors"), files)
    if artefact.long_side != long_side or not artefact.golden:
        graph = open_graph(files.read(artefact.sha256), provider="cpu")
        golden = (golden_frame(graph, _picture(), artefact.scale, long_side),)
        artefact = msgspec.structs.replace(artefact, long_side=long_side, golden=golden)
        write_atomic(known, msgspec.json.encode(artefact))
    return artefact


def _export(model: FasterRCNN, classes: tuple[str, ...], scratch: Path, files: ModelFiles) -> Artefact:
    save_weights(scratch, model, "fp16", classes)
    weights = files.add(scratch.read_bytes(), "safetensors")
    scratch.unlink()
    model, classes = load_weights(files.path(weights, "safetensors"))
    data = export_refillable(model, classes)
    check_parity(model, data, [_picture()])
    return Artefact(files.add(data, "onnx"), len(data), weights, 1.0, LONG_SIDE, classes, parent=None)


def _fingerprint(model: FasterRCNN) -> str:
    """Return a hash of the weights themselves: the same ones may be saved as different bytes of safetensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0" + tensor.numpy().tobytes())
    return digest.hexdigest()


def _known(path: Path, files: ModelFiles) -> Artefact | None:
    try:
        artefact = msgspec.json.decode(path.read_bytes(), type=Artefact)
        assert artefact.weights is not None
        files.read(artefact.sha256)
        files.read(artefact.weights, "safetensors")
    except (FileNotFoundError, msgspec.MsgspecError, ModelError):
        return None
    return artefact


def _picture() -> NDArray[np.uint8]:
    """Return the first frame of the bundled clip."""
    ((_, picture),) = read_frames(BUNDLED_CLIP, {0})
    return picture
