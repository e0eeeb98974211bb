"""What `check` does on both sides: things are tried one by one, and each outcome is one line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from culling.common.errors import CullingError, StorageError
from culling.common.logs import redact


@dataclass(frozen=True)
class Result:
    """What was tried and the outcome; `error` is None when it works, with a `warning` not as well as it should."""

    what: str
    detail: str
    error: CullingError | None = None
    warning: bool = False

    @property
    def word(self) -> str:
        """How it went, in one word."""
        return "failed" if self.error else "warning" if self.warning else "ok"


def attempt(what: str, act: Callable[[], str]) -> Result:
    """Return what `act` says of a thing that works, or why it does not."""
    try:
        return Result(what, act())
    except CullingError as error:
        return Result(what, str(error).removeprefix(f"{what}: "), error)


def writable(folder: Path, setting: str) -> str:
    """Say that `folder` can be written, or made. Raises StorageError, which names the `setting` that it comes from."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # `Path.exists` may raise
    if not (os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)):
        raise StorageError(f"{setting}: {folder} is not writable: check its owner and mode")
    try:  # to root every place looks writable, /proc too
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise StorageError(f"{setting}: {folder} is not writable: {nearest}: {error.strerror}") from None
    return f"{folder} is writable"


def print_all(results: Iterable[Result]) -> int:
    """Print each result as it is known; return the exit code of the first failure, 0 if there is none."""
    codes = []
    for result in results:
        print(f"{result.word:7} {result.what}: {redact(result.detail)}")
        codes += [result.error.exit_code] if result.error else []
    return codes[0] if codes else 0
