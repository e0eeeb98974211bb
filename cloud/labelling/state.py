"""What the process that labels leaves in its folder for others to read: its heartbeat, and why it cannot work."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

FOLDER = "labelling"
"""In the data folder: the lock, the heartbeat and the problem of the process that labels."""

UNWANTED = "labelling.per_day is 0"
"""Why nothing is labelled where that is no problem, since nobody wants it to be."""

_FILE = "problem"


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
