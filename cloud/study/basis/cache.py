"""Results that a study computes once: one that was killed, or is run again, continues after the last result kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from culling.common.atomic import write_atomic
from culling.common.errors import StorageError

T = TypeVar("T", bound=msgspec.Struct)


class Memo:
    """Results as JSON in `folder`, each under a hash of everything that decides it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kind: str, decided_by: Mapping[str, Any], suffix: str = "json") -> Path:
        """Return the path of the result of that kind, whether it is there or not."""
        digest = hashlib.sha256(msgspec.json.encode(decided_by, order="sorted")).hexdigest()[:20]
        return self.folder / f"{kind}-{digest}.{suffix}"

    def once(self, kind: str, decided_by: Mapping[str, Any], of: type[T], make: Callable[[], T]) -> T:
        """Return the stored result, or `make` it and store it.

        Raises StorageError when it cannot be read or written.
        """
        path = self.path(kind, decided_by)
        try:
            return msgspec.json.decode(path.read_bytes(), type=of)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            raise StorageError(f"{path}: cannot be read ({error}); remove it to compute it again") from None
        result = make()
        write_atomic(path, msgspec.json.encode(result) + b"\n")
        return result
