"""A folder that one process at a time works in: its lock, which ends with the process, and who holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from culling.common.errors import StorageError

LOOK_S = 1.0
"""A process that only looks at a lock holds it for a moment, longer where it is kept from the cores meanwhile; one that
wants the lock waits so long for that to pass."""


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Hold the file `lock` of the folder it lies in, for this process, a `what` ("agent", "service").

    The file holds the process's number meanwhile. Raises StorageError when another has it.
    """
    descriptor = _open(lock)
    try:
        if not _taken(descriptor):
            other = f"process {number}" if (number := _number(descriptor)) else "a process"
            raise StorageError(f"another {what} runs on {lock.parent} ({other}): stop it first")
        _write_number(descriptor)
        yield
    finally:
        os.close(descriptor)


def holder(lock: Path) -> int | None:
    """Return the number of the process that holds `lock`, 0 when it has not written it; None when no process does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
        return None
    except BlockingIOError:
        return _number(descriptor)
    finally:
        os.close(descriptor)


def _open(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if (
            error.errno == errno.EROFS
        ):  # an agent detects on a read-only disk too; the folder itself can be locked there
            return os.open(lock.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        raise StorageError(f"cannot lock {lock.parent}: {error.strerror}") from error


def _taken(descriptor: int) -> bool:
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S / 100)


def _number(descriptor: int) -> int:
    try:
        text = os.pread(descriptor, 20, 0).strip()
    except IsADirectoryError:
        return 0
    return int(text) if text.isdigit() else 0


def _write_number(descriptor: int) -> None:
    with suppress(OSError):  # a full or read-only disk must not keep an agent from starting
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
