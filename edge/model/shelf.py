"""One camera's models on disk: their files by id, and the record of their swaps."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from culling.common.atomic import write_atomic
from culling.common.errors import ManifestError, StorageError
from culling.common.wire.manifest import Manifest
from culling.edge.model.hotswap import SlotRecord

RECORD = "record.json"
KINDS = frozenset({".onnx", ".part", ".delta", ".manifest"})


class Shelf:
    """A folder; every method but `path` raises StorageError when the disk fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, model_id: str, kind: str) -> Path:
        """Return the path of a model's `onnx`, `part`, `delta` or `manifest`."""
        return self._folder / f"{model_id}.{kind}"

    def record(self, on_lost: Callable[[StorageError], None]) -> SlotRecord:
        """Return the record. One that cannot be read is moved aside, reported to `on_lost`, and an empty one returned:
        a camera that sees is worth more than the memory of refused models.
        """
        path = self._folder / RECORD
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return msgspec.json.decode(path.read_bytes(), type=SlotRecord)
        except FileNotFoundError:
            return SlotRecord()
        except (OSError, msgspec.MsgspecError) as error:
            aside = path.with_name(f"{RECORD}.corrupt")
            with suppress(OSError):
                os.replace(path, aside)
            on_lost(StorageError(f"{path} cannot be used, see {aside}: {error}"))
            return SlotRecord()

    def write(self, record: SlotRecord) -> None:
        """Make `record` durable."""
        write_atomic(self._folder / RECORD, msgspec.json.encode(record))

    def put_manifest(self, manifest: Manifest) -> None:
        """Make a verified manifest durable."""
        write_atomic(self.path(manifest.model_id, "manifest"), msgspec.msgpack.encode(manifest))

    def manifest(self, model_id: str) -> Manifest:
        """Return a stored manifest. Raises ManifestError("malformed") when it has rotted."""
        path = self.path(model_id, "manifest")
        try:
            return msgspec.msgpack.decode(read(path), type=Manifest)
        except msgspec.MsgspecError as error:
            raise ManifestError("malformed", f"{path} cannot be decoded: {error}") from error

    def files(self, named: Iterable[str | None]) -> dict[str, Path]:
        """Return the models of those ids that lie here, by their SHA-256; one that cannot be read is left out."""
        found: dict[str, Path] = {}
        for model_id in named:
            if model_id is not None and (path := self.path(model_id, "onnx")).exists():
                with suppress(ManifestError, StorageError):
                    found.setdefault(self.manifest(model_id).sha256, path)
        return found

    def sweep(self, kept: Collection[str | None]) -> None:
        """Remove the files of all models but those `kept`."""
        try:
            for path in self._folder.iterdir():
                if path.suffix in KINDS and path.stem not in kept:
                    path.unlink()
        except OSError as error:
            raise StorageError(f"cannot tidy {self._folder}: {error.strerror}") from error


def peek(folder: Path) -> SlotRecord:
    """Return the record in a folder, which another process may write meanwhile; an empty one where none can be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=SlotRecord)
    except (OSError, msgspec.MsgspecError):
        return SlotRecord()


def read(path: Path) -> bytes:
    """Return a whole file. Raises StorageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
