"""`culling cloud backup` and `restore`: everything below the data folder, consistent while the service runs.

The index is copied first, as one moment of it, and the files after it. A frame that comes in between is a file without
a row, which the next start indexes from itself; one that expires in between is a row without a file, which is put aside
when it is read. Files are never changed in place, so they are linked where both folders lie on one disk.

The copy of an index is an SQLite file, also of one on PostgreSQL, and may be restored to either: so a service moves
from one to the other.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from culling.cloud.settings import sqlite_url
from culling.cloud.store.database.copy import copy_index
from culling.cloud.store.folders import make_folder, only_one
from culling.cloud.store.index import Index
from culling.cloud.store.purge.audit import AUDIT
from culling.common.errors import StorageError
from culling.common.progress import Show

INDEX = "index.sqlite"
KEYS = "keys"
FOLDERS = ("models", "frames", KEYS)


@dataclass(frozen=True)
class Copied:
    """How many files were copied, and their size in bytes."""

    files: int
    bytes: int


def backup(data_dir: Path, out: Path, show: Show = lambda done, note: None, url: str | sa.URL | None = None) -> Copied:
    """Copy the data folder to `out`, a new or empty folder. The keys are in it: it is made for its owner alone.

    `url` is where the index lies, None for the data folder; `show` is told how many files are done. Raises
    StorageError.
    """
    if url is None and not (data_dir / INDEX).exists():
        raise StorageError(f"{data_dir} has no {INDEX}: nothing is to be copied")
    _check_empty(out)
    if url is None:
        _copy_index(data_dir / INDEX, out / INDEX)
    else:
        _copy_rows(Index(url), Index(sqlite_url(out / INDEX)))
        (out / INDEX).chmod(0o600)
    _copy_log(data_dir, out)
    return _copy_files(data_dir, out, show)


def restore(
    source: Path, data_dir: Path, show: Show = lambda done, note: None, url: str | sa.URL | None = None
) -> Copied:
    """Copy a backup back to `data_dir`, which must hold no index, or its index to the empty database at `url`.

    Raises StorageError, also while a service runs.
    """
    if not (source / INDEX).exists():
        raise StorageError(f"{source} is no backup: it has no {INDEX}")
    with only_one(data_dir):
        if (data_dir / INDEX).exists():
            raise StorageError(f"{data_dir} holds an index already: move the folder away, then restore")
        copied = _copy_files(source, data_dir, show)
        _copy_log(source, data_dir)
        if url is None:
            _copy_index(source / INDEX, data_dir / INDEX)  # last: only a whole restore has an index
        else:
            _restore_rows(source / INDEX, data_dir, url)
    return copied


def count_files(folder: Path) -> int:
    """Return how many files a backup of `folder`, or a restore from it, copies."""
    return sum(1 for _ in _files(folder))


def _check_empty(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StorageError(f"{folder} is not empty: name a new folder")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error


def _copy_index(source: Path, target: Path) -> None:
    try:
        uri = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as index, closing(sqlite3.connect(target)) as copy:
            index.backup(copy)
        target.chmod(0o600)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"cannot copy {source} to {target}: {error}") from error


def _restore_rows(file: Path, data_dir: Path, url: str | sa.URL) -> None:
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:  # opened, one of an earlier version is changed
        _copy_index(file, copy := Path(folder) / INDEX)
        _copy_rows(Index(sqlite_url(copy)), Index(url, migrating=True))


def _copy_rows(source: Index, target: Index) -> None:
    with closing(source), closing(target):
        copy_index(source, target)


def _copy_log(source: Path, target: Path) -> None:
    """Copy the audit log, if there is one; never as a link, since it is appended to."""
    try:
        if (source / AUDIT).exists():
            shutil.copy2(source / AUDIT, target / AUDIT)
    except OSError as error:
        raise StorageError(f"cannot copy {source / AUDIT} to {target}: {error.strerror}") from error


def _copy_files(source: Path, target: Path, show: Show) -> Copied:
    files = size = 0
    for path in _files(source):
        try:
            copied = _copy(path, target / path.relative_to(source))
        except FileNotFoundError:  # a model was pruned, or a frame expired, since its folder was read
            continue
        except OSError as error:
            raise StorageError(f"cannot copy {path} to {target}: {error.strerror}") from error
        files, size = files + 1, size + copied
        show(files, "")
    return Copied(files, size)


def _files(folder: Path) -> Iterator[Path]:
    for name in FOLDERS:
        for path in sorted((folder / name).rglob("*")):
            if path.is_file() and path.suffix != ".tmp":
                yield path


def _copy(path: Path, target: Path) -> int:
    """Link or copy one file; return its size in bytes."""
    make_folder(target.parent)
    if target.parent.name == KEYS:
        target.parent.chmod(0o700)
    size = path.stat().st_size
    target.unlink(missing_ok=True)  # of a restore that was cut short
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copy2(path, target)
    return size
