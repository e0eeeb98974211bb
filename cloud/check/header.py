"""Whether a weights file is a detector that can label, told from its header alone: no torch, no reading of 50 MB.

The layout of a safetensors file is in https://github.com/huggingface/safetensors: eight bytes with the length of a JSON
object, the object with every tensor's type, shape and place, then the tensors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from culling.cloud.weights.classes import CLASSES
from culling.cloud.weights.index import BUNDLED, REFERENCE
from culling.common.errors import ModelError
from culling.common.wire.messages import MAX_MODEL

MOST_BYTES = 100_000_000
"""The format's own limit for a header."""

_REPEATED = re.compile(r"(\.layer\d)\.[1-9]\d*\.")
_DEEP = "backbone.body.layer1.0.conv3.weight"
_SCORES = "roi_heads.box_predictor.cls_score.weight"


class Tensor(msgspec.Struct, frozen=True):
    """One entry of a header; `data_offsets` count from the header's end."""

    dtype: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors that a file holds by name, and its metadata.

    Raises ModelError when it is missing, no safetensors, or shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MOST_BYTES:
                raise ValueError("its header is too long")
            entries: dict[str, Any] = msgspec.json.decode(file.read(length), type=dict[str, Any])
        metadata = msgspec.convert(entries.pop("__metadata__", {}), dict[str, str])
        tensors = msgspec.convert(entries, dict[str, Tensor])
        there, told = path.stat().st_size, 8 + length + max((t.data_offsets[1] for t in tensors.values()), default=0)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, msgspec.DecodeError) as error:
        raise ModelError(f"{path}: not readable as safetensors ({error})") from None
    if there != told:
        raise ModelError(f"{path}: has {there} bytes, its header says {told}: copy it again")
    return tensors, metadata


def check_detector(path: Path) -> str:
    """Return in words what the file at `path` is: a detector of the bundled architectures; a teacher finds our classes.

    Raises ModelError, which names the file and the first tensor that is wrong, for any other.
    """
    tensors, metadata = read_header(path)
    classes = tuple(metadata["classes"].split(",")) if "classes" in metadata else CLASSES
    kind = "teacher" if _DEEP in tensors else "student"
    if kind == "teacher" and classes != CLASSES:
        raise ModelError(f"{path}: finds {', '.join(classes)}; expected {', '.join(CLASSES)}")
    mine, known = _plan(tensors), _plan(read_header(BUNDLED / f"{kind}.safetensors")[0])
    for name in sorted(mine.keys() ^ known.keys()):
        what = "lacks" if name in known else "has an unknown"
        raise ModelError(f"{path}: {what} tensor {name}: another architecture than the bundled {kind}")
    for name, sides in mine.items():
        if sides != known[name]:
            raise ModelError(f"{path}: tensor {name} has {sides} dimensions, expected {known[name]}")
    if (found := tensors[_SCORES].shape[0]) != len(classes) + 1:
        raise ModelError(f"{path}: tensor {_SCORES} is for {found - 1} classes, expected {len(classes)}")
    return f"{path.name}, a {kind}'s architecture, {len(classes)} classes"


def check_student_file(path: Path, family: str) -> str:
    """Return in words what the student in the weights file at `path` is. Raises ModelError naming what is wrong.

    An ONNX file that others made has no header of ours: it only has to be one; its family reads it when it is needed.
    """
    if path.suffix == ".onnx":
        return f"{path.name}, ONNX of {_onnx_tensors(path)} tensors"
    tensors, metadata = read_header(path)
    if metadata.get("kind") == "teacher":
        raise ModelError(f"{path}: holds a teacher's weights; a student's are needed")
    if (found := metadata.get("family", REFERENCE)) != family:
        raise ModelError(f"{path}: is a student of the family {found}, expected {family} (student.family)")
    if family == REFERENCE:
        return check_detector(path)
    classes = tuple(metadata.get("classes", "").split(","))
    for name, tensor in sorted(tensors.items()):
        if ".classes." in name and tensor.shape[:1] != [len(classes)]:
            raise ModelError(f"{path}: tensor {name} is for {tensor.shape[:1]} classes, expected {len(classes)}")
    return f"{path.name}, a {family} of {len(tensors)} tensors, {len(classes)} classes"


def _onnx_tensors(path: Path) -> int:
    import onnx  # a sixteenth of what a service takes to start, which has no use for it as a rule

    try:
        if path.stat().st_size > MAX_MODEL:
            raise ModelError(f"{path}: is larger than {MAX_MODEL >> 20} MiB")
        count = len(onnx.load_model_from_string(path.read_bytes()).graph.initializer)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ModelError:
        raise
    except Exception as error:  # protobuf's DecodeError, or a bare ValueError, by version
        raise ModelError(f"{path}: is no ONNX file: {error}") from None
    if not count:
        raise ModelError(f"{path}: holds no weights")
    return count


def _plan(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return each tensor's number of dimensions; the like blocks of a stage count as one, as depths may differ."""
    return {
        _REPEATED.sub(r"\1.n.", name): len(tensor.shape)
        for name, tensor in tensors.items()
        if not name.endswith((".scale", "num_batches_tracked"))
    }
