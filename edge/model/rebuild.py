"""A model that does not come whole: it is made of one that is here, by what changed or as it is.

What comes of that is a file like one that was downloaded, to be held against the hash in its manifest by the same
rule. Nothing here is believed: a delta that is wrong costs the time of the whole model, which is fetched then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from culling.common.errors import ProtocolError
from culling.common.wire.delta import Header, apply, read_header
from culling.common.wire.manifest import Manifest


def resumable(delta: Path, manifest: Manifest, here: Mapping[str, Path]) -> tuple[str, int] | None:
    """Return the base of a delta that is on disk in part, and the bytes of the whole delta; None if it is of no use.

    `here` are the models that it may start from, by their SHA-256. Raises OSError.
    """
    if not delta.exists():
        return None
    try:
        with delta.open("rb") as file:
            header, total = read_header(file)
    except ProtocolError:
        return None
    usable = _fits(header, manifest) and header.base in here and delta.stat().st_size <= total < manifest.size
    return (header.base, total) if usable else None


def rebuild(delta: Path, base: str, here: Mapping[str, Path], part: Path, manifest: Manifest) -> None:
    """Write to `part`, durably, what a whole delta makes of the model of the hash `base`, one of those that are `here`.

    Raises ProtocolError (`base-missing`, `delta-damaged`, or `delta-wrong` for one that is about other models), and
    OSError.
    """
    try:
        old = here[base].open("rb")
    except (KeyError, OSError):
        raise ProtocolError("base-missing", f"the model that the delta starts from is gone: {base[:12]}") from None
    with old, delta.open("rb") as changes:
        header, _ = read_header(changes)
        if header.base != base or not _fits(header, manifest):
            raise ProtocolError("delta-wrong", f"a delta that is not one of model {manifest.model_id}")
        changes.seek(0)
        with part.open("wb") as new:
            apply(changes, old, new)
            new.flush()
            os.fsync(new.fileno())


def copy(model: Path, part: Path) -> None:
    """Write a model that is here to `part`, durably. Raises OSError."""
    with model.open("rb") as old, part.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def _fits(header: Header, manifest: Manifest) -> bool:
    return (header.target, header.size) == (manifest.sha256, manifest.size)
