"""What a kind of output has to do: open, send a batch, close. The thread, the queue and the retries are not its own.

A kind is a subclass of `Sink`, named by an entry point of the group `culling.outputs`, so that a package can bring one:

    [project.entry-points."culling.outputs"]
    kafka = "culling_kafka:Kafka"

Its settings are those of `[[output]]`; what only it knows stands in `options`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

import msgspec

from culling.common.clock import Clock
from culling.common.detections import Batch
from culling.common.errors import CullingError, SettingsError
from culling.edge.output.settings import OutputSettings

KINDS = "culling.outputs"
"""Entry points of this group name the `Sink` of each kind."""


class DownError(CullingError):
    """Nobody takes records now: the batch is kept and tried again, in `after_s` seconds at the earliest if given."""

    exit_code = 6

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class UnwritableError(DownError):
    """The disk takes no records now."""

    exit_code = 7


class RefusedError(CullingError):
    """The receiver is there and will never take this batch: it is dropped, and counted."""

    exit_code = 6


@dataclass(frozen=True)
class CameraNow:
    """What an output may tell of a camera beside its records: its state, its student's classes, and its zones."""

    name: str
    state: str
    classes: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Around:
    """What is around an output: the time, and the agent's cameras as they are now."""

    clock: Clock
    cameras: Callable[[], Sequence[CameraNow]] = tuple


class Sink(ABC):
    """One place that records go to. All methods but the constructor are called on one thread, and may wait.

    `most` records go in a batch, and a record waits `gather_s` seconds for others. The constructor raises SettingsError
    for what no retry mends, and connects to nothing.
    """

    most = 100
    gather_s = 0.0

    def __init__(self, settings: OutputSettings, around: Around) -> None:
        self.settings = settings
        self.around = around
        self.lost: Callable[[int, str], None] = lambda records, reason: None
        self.encode = msgspec.json.Encoder().encode

    @property
    @abstractmethod
    def where(self) -> str:
        """Where records go, for people; without a secret."""

    @abstractmethod
    def open(self) -> None:
        """Get ready to send. Raises DownError."""

    @abstractmethod
    def send(self, batch: Batch) -> None:
        """Hand over all records of a batch. Raises DownError or RefusedError.

        Records that only some readers did not get are told to `lost`, with a reason.
        """

    def tend(self) -> None:  # noqa: B027 - most kinds have nothing to do
        """Do what is due beside records; called about once a second while open. Raises DownError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; may be called again, and before `open`."""

    def check(self) -> str:
        """Try whether records would arrive; return what was found, for people. Raises a CullingError."""
        try:
            self.open()
        finally:
            self.close()
        return self.where


def build(settings: OutputSettings, around: Around) -> Sink:
    """Return the sink of an output. Raises SettingsError for an unknown kind, and what its constructor raises."""
    known = {entry.name: entry for entry in entry_points(group=KINDS)}
    if settings.kind not in known:
        raise SettingsError(
            f"output {settings.name}: kind: there is no {settings.kind!r}; known are {', '.join(sorted(known))}"
        )
    try:
        kind: type[Sink] = known[settings.kind].load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"output {settings.name}: kind: {known[settings.kind].value} cannot be loaded: {error}; repair it"
        ) from error
    return kind(settings, around)
