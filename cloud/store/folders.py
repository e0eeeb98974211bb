"""Folders that are still there after a power cut, that one process at a time works in, and that one service holds."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from culling.common.errors import StorageError
from culling.common.process import lock
from culling.common.progress import Say, say_nothing

LOCK = "service.lock"
"""In the data folder: held by the service, or the repair, that works there."""


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
def alone(file: Path, say: Say = say_nothing) -> Iterator[None]:
    """Hold `file`, waiting until it is free, which is said: two at once would repeat each other's work."""
    with file.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process works in {file.parent}: waiting until it is done")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def only_one(data_dir: Path) -> AbstractContextManager[None]:
    """Hold the data folder's lock. Raises StorageError when another service has it."""
    return lock.only_one(data_dir / LOCK, "service")


def is_held(data_dir: Path) -> bool:
    """Return whether a service runs on the data folder."""
    return lock.holder(data_dir / LOCK) is not None


def free_bytes(folder: Path) -> int:
    """Return the room left where `folder` lies, in bytes. Raises StorageError."""
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(f"cannot read how much space is free in {folder}: {error.strerror}") from error
