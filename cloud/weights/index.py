"""The index of the weights that come with Culling: what each file holds, and its hash. It needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from culling.common.errors import CullingError, ModelError

Kind = Literal["student", "teacher"]
Format = Literal["fp16", "int8"]

BUNDLED = Path(__file__).parent
INDEX = "index.json"
REFERENCE = "faster-rcnn-resnet18"
"""The family of a weights file that names none: there was no other before 0.3."""


class Bundled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the index says of one file."""

    sha256: str
    bytes: int
    kind: Kind
    family: str
    classes: tuple[str, ...]
    format: Format


def read_index(folder: Path = BUNDLED) -> dict[str, Bundled]:
    """Return the index of `folder` by file name. Raises `ModelError` where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=dict[str, Bundled])
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{folder / INDEX}: not an index of weights ({error})") from None


def file_hash(path: Path, fault: type[CullingError] = ModelError) -> str:
    """Return the SHA-256 of a file. Raises `fault` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise fault(f"{path}: cannot be read: {error.strerror}") from None
