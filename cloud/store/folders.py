"""Folders that are still there after a power cut, and that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, waiting for whoever has it: two at once would do each other's work."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
