"""What a place for bytes can do, and which one the settings name.

Every object is whole and durable when `put` returns. In a place that is `shared` none ever changes under the same name:
there a name says what is in it, so that writing it again does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from culling.common.errors import StorageError


class LostError(StorageError):
    """There is no such object, or it cannot be read, and waiting won't help; any other StorageError may pass."""


@dataclass(frozen=True)
class Item:
    """An object's name, its size in bytes, and when it was written, in seconds since the epoch."""

    name: str
    size: int
    written: float


class Objects(Protocol):
    """Safe to use from several threads and processes. Names are relative, with `/`. All raise StorageError.

    `shared`: services on other machines write there too.
    """

    shared: bool

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Write objects by name, durably; where it raises, any of them may be there."""

    def get(self, name: str) -> bytes:
        """Return an object. Raises LostError."""

    def range(self, name: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes of an object from `offset` on. Raises LostError."""

    def list(self, folder: str) -> Iterator[Item]:
        """Yield every object below a folder."""

    def delete(self, names: Collection[str]) -> None:
        """Remove objects; one that is not there is no error."""

    def move(self, name: str, to: str) -> None:
        """Give an object another name, if it is there."""

    def place(self, name: str) -> str:
        """Return where a person finds an object: a path, or a URL."""


def open_objects(url: str | None, data_dir: Path) -> Objects:
    """Return the place that `store.objects` names, None for the data folder. Raises StorageError."""
    from culling.cloud.store.objects.bucket import Bucket
    from culling.cloud.store.objects.folder import Folder

    return Folder(data_dir) if url is None else Bucket(url)
