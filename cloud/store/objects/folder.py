"""Objects as files of a folder, each fsynced with its name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from culling.cloud.store.folders import make_folder
from culling.cloud.store.objects.objects import Item, LostError
from culling.common.atomic import write_all_atomic
from culling.common.errors import StorageError


class Folder:
    """The files below `root`, which one service at a time works on."""

    shared = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Write files; those of one call are made durable side by side."""
        paths = {self._root / name: data for name, data in contents.items()}
        for folder in {path.parent for path in paths}:
            make_folder(folder)
        write_all_atomic(paths)

    def get(self, name: str) -> bytes:
        """Return a file."""
        with self._readable(name) as path:
            return path.read_bytes()

    def range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file."""
        with self._readable(name) as path, path.open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    def list(self, folder: str) -> Iterator[Item]:
        """Yield every file below a folder, also what is left of writes that were cut short."""
        for path in sorted((self._root / folder).rglob("*")):
            if path.is_file():
                told = path.stat()
                yield Item(path.relative_to(self._root).as_posix(), told.st_size, told.st_mtime)

    def delete(self, names: Collection[str]) -> None:
        """Unlink files."""
        for name in names:
            with self._changing(name) as path:
                path.unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """Rename a file."""
        with self._changing(name) as path:
            if path.exists():
                (self._root / to).parent.mkdir(exist_ok=True)
                path.replace(self._root / to)

    def place(self, name: str) -> str:
        """Return the path of a file."""
        return str(self._root / name)

    @contextmanager
    def _readable(self, name: str) -> Iterator[Path]:
        try:
            yield (path := self._root / name)
        except OSError as error:  # a bad sector does not pass either
            raise LostError(f"{path}: cannot be read: {error.strerror}") from error

    @contextmanager
    def _changing(self, name: str) -> Iterator[Path]:
        try:
            yield (path := self._root / name)
        except OSError as error:
            raise StorageError(f"cannot clean up {path}: {error.strerror}") from error
