"""Replace a file whole or not at all, whatever moment the power goes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from culling.common.errors import StorageError


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `path` hold exactly `data`, durably; a reader sees the old content or the new one, never a part.

    The bytes go to a temporary file in the same folder, which is fsynced and renamed over `path`; the folder is fsynced
    last, because only then is the new name itself on disk. Raises StorageError, leaving the old file as it was.
    """
    try:
        temporary = _write_beside(path, data, mode)
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _write_beside(path: Path, data: bytes, mode: int) -> str:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
