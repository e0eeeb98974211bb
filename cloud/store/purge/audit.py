"""`audit.log` in the data folder: who added, moved, removed or purged a camera, when, and what went; who took pictures
out, and whose labels came in.

One line of JSON for each, only ever appended to, and durable when the command says that it is done. A purge writes one
line before it deletes anything and one when it is through, so that one that was cut short is known too.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from culling.common.errors import StorageError

AUDIT = "audit.log"
Event: TypeAlias = Literal[
    "camera_added",
    "camera_moved",
    "camera_removed",
    "camera_purge_began",
    "camera_purged",
    "frames_exported",
    "labels_imported",
    "frames_reviewed",
]


def record(data_dir: Path, event: Event, at: float, **what: Any) -> None:
    """Append what was done `at` a time, in seconds since the epoch, with who did it. Raises StorageError."""
    line = {"at": iso(at), "event": event, **who(), **what}
    try:
        descriptor = os.open(data_dir / AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {data_dir / AUDIT}: {error.strerror}") from error


def iso(at: float) -> str:
    """Return a time in seconds since the epoch as UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def who() -> dict[str, str]:
    """Return the account that runs the command, who became it through sudo, and the machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in a container
        user = f"uid {os.getuid()}"
    sudo = {"sudo_user": name} if (name := os.environ.get("SUDO_USER")) else {}
    return {"user": user, **sudo, "host": socket.gethostname()}
