"""Folders that are still there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

from culling.common.errors import StorageError


def make_folder(folder: Path) -> None:
    """Make `folder`, and those above it, durably: a name is on disk only once the folder that holds it is synced.

    Raises StorageError.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error.strerror}") from error
