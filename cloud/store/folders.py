"""Folders that are still there after a power cut, that one process at a time works in, and that one service holds."""

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
    """Hold the file `lock`, waiting until it is free: two at once would repeat each other's work."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_alone(lock: Path) -> bool:
    """Return whether a process holds the file `lock`."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock. Raises StorageError when another service has it."""
    try:
        descriptor = os.open(data_dir / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot lock {data_dir}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(f"another service runs on {data_dir}: stop it first") from None
        yield
    finally:
        os.close(descriptor)


def is_held(data_dir: Path) -> bool:
    """Return whether a service runs on the data folder."""
    try:
        with only_one(data_dir):
            return False
    except StorageError:
        return True
