"""`kind = "jsonl"`: a JSON line for each record in a file, which is rotated by size and age and then gzipped.

    detections.jsonl              the newest records
    detections.jsonl.000007       the part before, until it is gzipped
    detections.jsonl.000006.gz    older ones; the numbers rise, and go on after a restart

A disk that fills up leaves whole lines: what was written of a batch is taken back, and the batch is tried again.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from culling.common.detections import MAX_RECORD, Batch, decode, rotated
from culling.common.errors import StorageError
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, Sink, UnwritableError

LEVEL = 6
"""Of gzip: records shrink to a tenth, at some 60 MB/s."""


class JsonLines(Sink):
    """Owns the file; older parts are gzipped on a thread of their own, one at a time."""

    most = 1000

    def __init__(self, settings: OutputSettings, around: Around) -> None:
        super().__init__(settings, around)
        assert settings.path is not None, "settings.py asks for it"
        self._path = settings.path
        self._file = -1
        self._size = 0
        self._begun = 0.0
        self._packer: threading.Thread | None = None

    @property
    def where(self) -> str:
        return str(self._path)

    def open(self) -> None:
        """Open the file for appending; end the half line that a power cut may have left."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            found = os.fstat(self._file)
            self._size = found.st_size
            self._begun = _first_written(self._path, found.st_mtime) if self._size else self.around.clock.now()
            if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
                self._append(b"\n")
            self._pack()
        except OSError as error:
            raise self._failed(error) from None

    def send(self, batch: Batch) -> None:
        """Append a line for each record, and begin a new file when this one is full or old."""
        lines = b"".join(self.encode(record) + b"\n" for record in batch.records)
        try:
            if self._size and (self._size + len(lines) > self.settings.max_bytes or self._old):
                self._rotate()
            self._append(lines)
        except OSError as error:
            raise self._failed(error) from None

    def tend(self) -> None:
        """Begin a new file when this one is old, also where no record comes."""
        try:
            if self._size and self._old:
                self._rotate()
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def check(self) -> str:
        """Say that the file can be written; leaves none behind."""
        nearest = next(path for path in (self._path, *self._path.parents) if os.path.exists(path))
        try:  # by writing: to root every place looks writable, /proc too
            if nearest == self._path:
                os.close(os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            else:
                tempfile.TemporaryFile(dir=nearest).close()
        except OSError as error:
            raise StorageError(
                f"{self._path} is not writable: {nearest}: {error.strerror}; check owner, mode and path"
            ) from None
        return f"{self._path} is writable"

    @property
    def _old(self) -> bool:
        age = self.around.clock.now() - self._begun
        return 0 < self.settings.max_age_s <= age

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        number = max(rotated(self._path), default=0) + 1
        os.rename(self._path, self._path.with_name(f"{self._path.name}.{number:06}"))
        self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size, self._begun = 0, self.around.clock.now()
        self._pack()

    def _pack(self) -> None:
        if self._packer is None or not self._packer.is_alive():
            self._packer = threading.Thread(target=self._pack_older, name="gzip", daemon=True)
            self._packer.start()

    def _pack_older(self) -> None:
        """Gzip what is not yet, and delete what is too much; a disk that refuses is asked again later."""
        with suppress(OSError):
            for path in list(rotated(self._path).values()) if self.settings.gzip else ():
                if path.suffix != ".gz":
                    _gzip(path)
        with suppress(OSError):
            older = rotated(self._path)
            for number in sorted(older)[: max(0, len(older) - self.settings.keep)]:
                older[number].unlink()

    def _failed(self, error: OSError) -> UnwritableError:
        return UnwritableError(f"{self._path}: cannot be written: {error.strerror}")


def _first_written(path: Path, otherwise: float) -> float:
    """Return when a file was begun, as far as its file system knows: by the time of its first record, else its last."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        return decode(file.readline(MAX_RECORD)).at
    return otherwise


def _gzip(path: Path) -> None:
    whole, part = path.with_name(f"{path.name}.gz"), path.with_name(f"{path.name}.gz.part")
    try:
        with path.open("rb") as plain, gzip.open(part, "wb", LEVEL) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        os.rename(part, whole)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    path.unlink()
