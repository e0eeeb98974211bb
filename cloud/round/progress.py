"""How far a round's process has come: a small file in the round's folder, written by it and read by the service.

The service tells by it a process that works from one that hangs, and people see what takes so long.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

FILE = "progress.json"

EVERY_S = 1.0
"""Training steps can take milliseconds, and nobody looks more often."""


class Progress(msgspec.Struct, frozen=True):
    """`step` of `steps` in `stage` (0 of 0 where a stage has none) at the time `at`.

    The process began with step `first` at the time `began`; times are seconds since the epoch.
    """

    stage: str
    step: int
    steps: int
    at: float
    began: float
    first: int = 0

    @property
    def share(self) -> float | None:
        """The share of the stage that is done, in [0, 1]; None for a stage without steps."""
        return min(1.0, self.step / self.steps) if self.steps else None

    @property
    def left_s(self) -> float | None:
        """How many seconds the stage will still take, at the pace it had so far; None before its first step."""
        done = self.step - self.first
        if done <= 0 or not self.steps:
            return None
        return round(max(0.0, self.at - self.began) * max(0, self.steps - self.step) / done, 1)

    def told(self) -> str:
        """Return it as a person reads it: the stage, how much of it is done, and how long it still takes."""
        share = "" if self.share is None else f" {self.share:.0%}"
        left = self.left_s
        return f"{self.stage}{share}" + ("" if left is None else f", {left_words(left)} left")


def left_words(seconds: float) -> str:
    """Return a time to come in words: to the minute, or to ten seconds below two minutes."""
    return f"{max(10, round(seconds, -1)):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class ProgressWriter:
    """Writes the progress of the round whose folder it is, at most every `EVERY_S`; `now` is in epoch seconds.

    A disk that takes no file must not end a round, so that a beat that cannot be written is left out.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._path = folder / FILE
        self._now = now
        self._told = Progress("", 0, 0, now(), now())
        self._written = 0.0

    def stage(self, name: str) -> None:
        """Say that a stage begins."""
        now = self._now()
        self._told = Progress(name, 0, 0, now, now)
        self._write()

    def expect(self, steps: int) -> None:
        """Say how many steps the stage takes from here."""
        now = self._now()
        self._told = Progress(self._told.stage, 0, steps, now, now)
        self._write()

    def advance(self, steps: int = 1) -> None:
        """Say that so many more steps are done."""
        told = self._told
        self._told = msgspec.structs.replace(told, step=told.step + steps, at=self._now())
        self._write_soon()

    def reach(self, step: int) -> None:
        """Say that a step is done; one that does not follow the last belongs to a run that was resumed or restarted."""
        if step == self._told.step + 1:
            self.advance()
            return
        now = self._now()
        self._told = msgspec.structs.replace(self._told, step=step, at=now, began=now, first=step)
        self._write_soon()

    def _write_soon(self) -> None:
        if abs(self._told.at - self._written) >= EVERY_S:  # a clock that is set back must not silence it
            self._write()

    def _write(self) -> None:
        # Not `write_atomic`: after a power cut nobody asks how far the process was, so a sync would only cost time.
        self._written = self._told.at
        partial = self._path.with_suffix(".partial")
        with suppress(OSError):
            partial.write_bytes(msgspec.json.encode(self._told))
            os.replace(partial, self._path)


def read_progress(folder: Path) -> Progress | None:
    """Return what the process of the round with that folder said last; None if it said nothing that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        return None
