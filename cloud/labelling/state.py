"""What the process that labels leaves in its folder for others to read: its name, its heartbeat, why it cannot work."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from culling.cloud.store.folders import make_folder
from culling.common.atomic import write_atomic

FOLDER = "labelling"
"""In the data folder: the lock, the name, the heartbeat and the problem of the process that labels."""

UNWANTED = "labelling.per_day is 0"
"""Why nothing is labelled where that is no problem, since nobody wants it to be."""

_FILE = "problem"
_NAME = "worker"


def worker_name(data_dir: Path) -> str:
    """Return the name under which the worker of a data folder takes frames, made at the first call; no other has it.

    It outlives the process, so that the next one knows which leases are its own. Raises StorageError.
    """
    path = data_dir / FOLDER / _NAME
    with suppress(OSError, UnicodeDecodeError):
        if name := path.read_text("ascii").strip():
            return name
    make_folder(path.parent)
    name = secrets.token_hex(4)
    write_atomic(path, f"{name}\n".encode())
    return name


def say_problem(data_dir: Path, text: str) -> None:
    """Say in one line why nothing is labelled, "" where all is well; what cannot be written is left out."""
    path = data_dir / FOLDER / _FILE
    with suppress(OSError):
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        else:
            path.unlink(missing_ok=True)


def read_problem(data_dir: Path) -> str:
    """Return why nothing is labelled, "" where all is well."""
    try:
        return (data_dir / FOLDER / _FILE).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
