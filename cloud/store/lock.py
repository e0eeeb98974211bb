"""The data folder's lock: one service, or one repair, at a time; and whether a service holds it now."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from culling.common.errors import StorageError


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
