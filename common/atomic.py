"""Replace a file completely or not at all, even if the power fails in between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from culling.common.errors import StorageError

SIDE_BY_SIDE = 8
"""Files that are fsynced at once: a journal commits those that wait together, so they cost little more than one."""

_pool = ThreadPoolExecutor(SIDE_BY_SIDE, "sync")  # kept, because starting its threads takes as long as the disk does


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `path` hold exactly `data`, durably; a reader sees the old content or the new one, never a part.

    The bytes go to a temporary file in the same folder, which is fsynced and renamed over `path`; the folder is fsynced
    last, because only then is the new name itself on disk. Raises StorageError, leaving the old file as it was.
    """
    write_all_atomic({path: data}, mode)


def write_all_atomic(contents: Mapping[Path, bytes], mode: int = 0o644) -> None:
    """As `write_atomic`, for each of several files, which the disk makes durable side by side.

    Raises StorageError; each file is then either the old one or the new one.
    """
    temporary: dict[Path, str] = {}
    with ExitStack() as life:
        life.callback(_discard, temporary)
        files = {
            path: life.enter_context(_written_beside(path, data, mode, temporary)) for path, data in contents.items()
        }
        _side_by_side(lambda path: os.fsync(files[path].fileno()), files)
        for path in contents:
            with _naming(path):
                os.replace(temporary[path], path)
            del temporary[path]
        _side_by_side(_sync_folder, {path.parent for path in contents})


@contextmanager
def _written_beside(path: Path, data: bytes, mode: int, temporary: dict[Path, str]) -> Iterator[BinaryIO]:
    """Yield a new file beside `path` that holds `data`; note its name in `temporary`."""
    with _naming(path):  # closing, too, writes what a full disk did not take
        descriptor, temporary[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            yield file


def _side_by_side(sync: Callable[[Path], None], paths: Collection[Path]) -> None:
    def named(path: Path) -> None:
        with _naming(path):
            sync(path)

    if len(paths) == 1:
        named(*paths)
        return
    # A file system's journal commits the files that wait at the same time together.
    synced = [_pool.submit(named, path) for path in paths]
    wait(synced)  # for all of them, even if one failed: their files are closed next
    for one in synced:
        one.result()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _discard(temporary: Mapping[Path, str]) -> None:
    for name in temporary.values():
        os.unlink(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
