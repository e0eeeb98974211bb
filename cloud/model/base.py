"""Students of weights files as graphs that can be published, above all the base: what every camera starts with.

An export takes a minute or more, so it is done once for given weights: the result is kept in `base/` under their hash.
Students of one shape share the graph, so that the next one of it takes only the proof that it computes the same.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from culling.cloud.bill.count import student_cost
from culling.cloud.model.golden import golden_frame
from culling.cloud.model.refit import export_proven
from culling.cloud.model.weights import load_bundled, load_student, load_weights, save_weights
from culling.cloud.settings import CloudSettings, RoundSettings
from culling.cloud.store.registry import Artefact, ModelFiles
from culling.cloud.weights.index import BUNDLED
from culling.common.atomic import write_atomic
from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.common.progress import Say, say_nothing
from culling.common.scaler import LONG_SIDE
from culling.common.video import BUNDLED_CLIP, read_frames

OUTLINES = "*.outline.xz"
"""Graphs of the bundled students without their weights: no other student of their shapes is ever traced."""


def base_artefact(settings: CloudSettings, files: ModelFiles, say: Say = say_nothing) -> Artefact:
    """Return the student of `[student] weights`, exported and proven equal to its weights.

    It has a golden frame from the bundled clip, and finds what its weights find, whatever a camera looks for: the
    cameras of an edge begin with one file, and each changes its classes with its first round. Raises ModelError when
    the weights cannot be used.
    """
    model, classes = first_student(settings, settings.default_classes)
    artefact, known = _kept(settings.data_dir / "base", model, classes, files, say)
    long_side = settings.student.long_side
    if artefact.long_side != long_side or not artefact.golden:
        graph = open_graph(files.read(artefact.sha256), provider="cpu")
        golden = (golden_frame(graph, _picture(), artefact.scale, long_side),)
        artefact = msgspec.structs.replace(artefact, long_side=long_side, golden=golden)
        write_atomic(known, msgspec.json.encode(artefact))
    return artefact


def first_student(settings: CloudSettings, classes: tuple[str, ...]) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the student of `[student] weights`, and what it finds: `classes` where they are ONNX, which know more.

    Raises ModelError when they cannot be used.
    """
    wanted, family = settings.student.weights, settings.student.family
    if wanted == "bundled":
        return load_bundled("student", family=family)
    return load_student(Path(wanted), family, classes)


def student_artefact(path: Path, data_dir: Path, files: ModelFiles, say: Say = say_nothing) -> Artefact:
    """Return the student of a weights file, as `base_artefact` does, without a golden frame of its own."""
    say(f"reading {path.name}")
    model, classes = load_student(path)
    return _kept(data_dir / "base", model, classes, files, say)[0]


def _kept(
    folder: Path, model: nn.Module, classes: tuple[str, ...], files: ModelFiles, say: Say
) -> tuple[Artefact, Path]:
    """Return the student as it was exported, now or before, and where that is written down."""
    known = folder / f"{_fingerprint(model, classes)}.json"
    if (artefact := _known(known, files)) is None:
        folder.mkdir(parents=True, exist_ok=True)
        artefact = _export(model, classes, known.with_suffix(".safetensors"), files, say)
    if artefact.cost is None:  # an earlier version did not count it
        artefact = msgspec.structs.replace(artefact, cost=student_cost(model, RoundSettings().frozen))
        write_atomic(known, msgspec.json.encode(artefact))
    return artefact, known


def _export(model: nn.Module, classes: tuple[str, ...], scratch: Path, files: ModelFiles, say: Say) -> Artefact:
    save_weights(scratch, model, "fp16", classes)
    weights = files.add(scratch.read_bytes(), "safetensors")
    scratch.unlink()
    model, classes = load_weights(files.path(weights, "safetensors"))
    data, _ = export_proven(templates(scratch.parents[1], files), model, classes, [_picture()], say)
    return Artefact(files.add(data, "onnx"), len(data), weights, 1.0, LONG_SIDE, classes, parent=None)


def outlines() -> Iterator[bytes]:
    """Yield the bundled graphs that a student may fit."""
    for outline in sorted(BUNDLED.glob(OUTLINES)):
        yield lzma.decompress(outline.read_bytes())


def templates(data_dir: Path, files: ModelFiles) -> Iterator[bytes]:
    """Yield graphs that a student may fit: the bundled ones, and those of base students."""
    yield from outlines()
    for known in sorted((data_dir / "base").glob("*.json")):
        if (artefact := _known(known, files)) is not None:
            yield files.read(artefact.sha256)


def _fingerprint(model: nn.Module, classes: tuple[str, ...]) -> str:
    """Return a hash of what the student finds and of the weights themselves: the same ones may be saved as different
    bytes of safetensors.
    """
    digest = hashlib.sha256(",".join(classes).encode() + b"\0")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0" + tensor.numpy().tobytes())
    return digest.hexdigest()


def _known(path: Path, files: ModelFiles) -> Artefact | None:
    try:
        artefact = msgspec.json.decode(path.read_bytes(), type=Artefact)
        assert artefact.weights is not None
        for sha256, suffix in ((artefact.sha256, "onnx"), (artefact.weights, "safetensors")):
            files.read(sha256, suffix)
            files.renew(sha256, suffix)
    except (FileNotFoundError, msgspec.MsgspecError, ModelError):
        return None
    return artefact


def _picture() -> NDArray[np.uint8]:
    """Return the first frame of the bundled clip."""
    ((_, picture),) = read_frames(BUNDLED_CLIP, {0})
    return picture
