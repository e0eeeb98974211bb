"""Other cameras and outputs for an agent that runs: what other settings change, how it is asked, how it answers.

The command checks the settings first, then sends SIGHUP to the process that holds the state folder's lock; the answer
comes as a file in that folder. All that is new is made ready beside the cameras that run, and taken between two frames;
when anything of it fails, nothing changes.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from culling.common.atomic import write_atomic
from culling.common.errors import CullingError, InputError
from culling.common.process.lock import holder
from culling.edge.camera.camera import CameraSettings
from culling.edge.output.settings import OutputSettings
from culling.edge.settings import EdgeSettings

LOCK = "agent.lock"
"""In the state folder: held by the agent that works there."""

ANSWER = "reload.json"
"""In the state folder: what came of the last reload."""

ANSWER_S = 300.0
"""To make a new camera's model ready takes long on a small machine."""


@dataclass(frozen=True)
class SettingsChange:
    """What another settings file means for an agent; `late` are the sections that it reads only when it starts.

    `outputs` are those to be made, because they are new or have changed.
    """

    added: tuple[CameraSettings, ...]
    moved: tuple[CameraSettings, ...]
    removed: tuple[str, ...]
    late: tuple[str, ...]
    outputs: tuple[OutputSettings, ...] = ()
    outputs_gone: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = {
            "added": [camera.name for camera in self.added],
            "changed": [camera.name for camera in self.moved],
            "removed": list(self.removed),
            "set up output": [output.name for output in self.outputs],
            "removed output": list(self.outputs_gone),
        }
        told = [f"{what} {', '.join(sorted(found))}" for what, found in names.items() if found]
        late = ", ".join(f"[{section}]" for section in self.late)
        rest = [f"{late} changed too, which an agent reads only when it starts: restart it"] if late else []
        return "; ".join([*(told or ["no camera changed"]), *rest])


class Answer(msgspec.Struct, frozen=True):
    """What came of a reload; `code` is 0, or the exit code of what was wrong."""

    text: str
    code: int = 0


def compare(old: EdgeSettings, new: EdgeSettings) -> SettingsChange:
    """Return what it takes to get from the settings in force to others."""
    before, after = ({camera.name: camera for camera in settings.camera} for settings in (old, new))
    outputs_before, outputs_after = ({one.name: one for one in settings.output} for settings in (old, new))
    sections = [name for name in EdgeSettings.model_fields if name not in ("camera", "output")]
    return SettingsChange(
        tuple(camera for name, camera in after.items() if name not in before),
        tuple(camera for name, camera in after.items() if name in before and before[name] != camera),
        tuple(name for name in before if name not in after),
        tuple(name for name in sections if getattr(old, name) != getattr(new, name)),
        tuple(one for name, one in outputs_after.items() if outputs_before.get(name) != one),
        tuple(name for name in outputs_before if name not in outputs_after),
    )


def answer(state_dir: Path, text: str, code: int = 0) -> None:
    """Leave an answer for the command that asked. Raises StorageError."""
    write_atomic(state_dir / ANSWER, msgspec.json.encode(Answer(text, code)), mode=0o600)


def ask(state_dir: Path, within_s: float = ANSWER_S) -> str:
    """Have the agent of `state_dir` reload its settings; return what changed.

    Raises InputError when none runs there, CullingError with the agent's reason when it goes on as it was.
    """
    number = holder(state_dir / LOCK)
    if not number:
        raise InputError(f"no agent runs on {state_dir}: start it with `culling edge run`")
    before = _version(state_dir)
    try:
        os.kill(number, signal.SIGHUP)
    except OSError as error:
        raise InputError(f"process {number} of {state_dir} cannot be signalled: {error.strerror}") from None
    deadline = time.monotonic() + within_s
    while (now := _version(state_dir)) == before or now is None:
        if holder(state_dir / LOCK) != number:
            raise CullingError(f"the agent (process {number}) has ended meanwhile: see its log")
        if time.monotonic() >= deadline:
            raise CullingError(f"the agent (process {number}) gave no answer within {within_s:g} s: see its log")
        time.sleep(0.05)
    found = msgspec.json.decode((state_dir / ANSWER).read_bytes(), type=Answer)
    if found.code:
        refusal = CullingError(f"the agent goes on as it was: {found.text}")
        refusal.exit_code = found.code
        raise refusal
    return found.text


def has_terminal() -> bool:
    """Return whether this process still has the terminal that it was started in: its end sends SIGHUP, too."""
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False


def _version(state_dir: Path) -> tuple[int, int] | None:
    try:
        found = (state_dir / ANSWER).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
