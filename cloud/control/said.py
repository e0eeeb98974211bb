"""What the processes below control say of their work: how far a round has come, and why nothing is labelled.

They say it in small files of the data folder. Where the service is in several processes, control writes the same into
the index, for those who cannot read its folder.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from culling.cloud.labelling.state import read_problem
from culling.cloud.round.progress import Progress, read_progress
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index, notes
from culling.cloud.store.rounds import Round, Rounds
from culling.common.clock import Clock

EVERY_S = 2.0
"""How often it is looked at; people see what takes minutes."""

LABELLING, ROUND = "labelling", "round-"


class Said:
    """What they say at the moment of its making, for whoever shows it."""

    def __init__(self, index: Index, settings: CloudSettings) -> None:
        self._data_dir = settings.data_dir
        self._notes = _read(index) if settings.shared else None

    @property
    def problem(self) -> str:
        """Why nothing is labelled, "" where all is well."""
        return read_problem(self._data_dir) if self._notes is None else self._notes.get(LABELLING, "")

    def progress(self, round_id: int) -> Progress | None:
        """Return how far the process of a round has come; None where it has said nothing that can be read."""
        if self._notes is None:
            return read_progress(self._data_dir / "rounds" / str(round_id))
        try:
            return msgspec.json.decode(self._notes.get(f"{ROUND}{round_id}", ""), type=Progress)
        except msgspec.DecodeError:
            return None


class Saying:
    """Writes into the index what they say, where others need it; used by the elected control's thread."""

    def __init__(self, index: Index, settings: CloudSettings, clock: Clock) -> None:
        self._index = index
        self._settings = settings
        self._clock = clock
        self._next = 0.0
        self._written: dict[str, str] | None = None

    def advance(self) -> None:
        """Write what has changed. Raises StorageError."""
        if not self._settings.shared or self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + EVERY_S
        now = self._now()
        if now == self._written:
            return
        with self._index.write() as connection:
            connection.execute(notes.delete())
            if now:
                connection.execute(notes.insert(), [{"name": name, "text": text} for name, text in now.items()])
        self._written = now

    def _now(self) -> dict[str, str]:
        data_dir = self._settings.data_dir
        found = {ROUND + str(turn.id): read_progress(data_dir / "rounds" / str(turn.id)) for turn in self._unfinished()}
        told = {name: msgspec.json.encode(one).decode() for name, one in found.items() if one is not None}
        problem = read_problem(data_dir)
        return told | ({LABELLING: problem} if problem else {})

    def _unfinished(self) -> list[Round]:
        return Rounds(self._index).unfinished()


def _read(index: Index) -> dict[str, str]:
    with index.read() as connection:
        return {row.name: row.text for row in connection.execute(sa.select(notes))}
