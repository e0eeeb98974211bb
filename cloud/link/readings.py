"""What ingest reads in the index every second, and writes to it, on a thread of its own: no message waits for that.

Of thousands of cameras that takes tens of milliseconds, and many times as long while other threads compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from culling.cloud.settings import CloudSettings
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.folders import free_bytes
from culling.cloud.store.frames import Counts, FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Members, Roster, Told, Words, state_of
from culling.cloud.store.waves.shadows import shadow_ids
from culling.common.clock import Clock
from culling.common.errors import StorageError
from culling.common.metrics import Metrics

COUNT_S = 5.0
"""How often the totals are read; in between, arrivals are added up."""

_NONE = Counts()


def is_newer(word: Told, known: Told | None) -> bool:
    """Return whether a camera's word was heard after the one that is known, if any is."""
    return known is None or word[1] > known[1]


@dataclass(frozen=True)
class Said:
    """What ingest knows as it asks for a reading: the `latest` word on every camera, those of them that are `unsaved`,
    what is `stored`, and how many edges are `alive`. Nothing in it may change from then on.
    """

    latest: Mapping[str, Told]
    unsaved: Mapping[str, Told]
    stored: Mapping[str, Counts]
    alive: int


@dataclass(frozen=True)
class Reading:
    """One moment of the index: who may speak, what each camera should run and do, and what was said to other ingests.

    `counts` is None where the last ones still hold; `unwritten` is what kept the words from being written.
    """

    free_bytes: int
    counts: dict[str, Counts] | None
    members: Members
    live: Mapping[str, str]
    shadows: Mapping[str, str]
    desired: Mapping[str, DesiredState]
    news: Mapping[str, Told]
    unwritten: StorageError | None


class Readings:
    """One reading at a time, asked for and taken by one thread; what is known by then is exported."""

    def __init__(
        self,
        settings: CloudSettings,
        index: Index,
        frames: FrameStore,
        metrics: Metrics,
        clock: Clock,
        others: Words | None,
    ) -> None:
        self._settings = settings
        self._frames = frames
        self._roster = Roster(index)
        self._index = index
        self._registry = Registry(index)
        self._desired_states = DesiredStates(index)
        self._metrics = metrics
        self._clock = clock
        self._others = others
        self._before = {row.name: row.heard for row in self._roster.rows() if row.heard is not None}
        self._members = Members()
        self._announced: set[str] = set()
        self._next_count = clock.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest-index")
        self._reading: Future[Reading] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is read, nor left to be taken."""
        return self._reading is None

    def ask(self, said: Said) -> None:
        """Begin to write what is unsaved, and to read."""
        self._reading = self._thread.submit(self._read, said)

    def wait(self) -> None:
        """Wait until there is something to take."""
        wait([self._reading] if self._reading is not None else [])

    def take(self) -> Reading | None:
        """Return what was read; None where nothing was asked for, or it takes longer.

        Raises what kept it from being read, and then nothing was written: StorageError where the index failed.
        """
        if self._reading is None or not self._reading.done():
            return None
        done, self._reading = self._reading, None
        return done.result()

    def close(self, unsaved: Mapping[str, Told]) -> None:
        """Write the last words, after what is being read. Raises StorageError."""
        last = self._thread.submit(self._save, unsaved)
        self._thread.shutdown()
        last.result()

    # On its thread

    def _read(self, said: Said) -> Reading:
        stored, latest = said.stored, said.latest
        try:
            free = free_bytes(self._settings.data_dir)
            self._metrics.set("disk_free_bytes", free)
            members = self._members = self._roster.members()
            counts = self._frames.counts() if self._clock.monotonic() >= self._next_count else None
            stored = stored if counts is None else dict(counts)
            live, desired = self._registry.live_ids(), self._desired_states.all()
            shadows = shadow_ids(self._index)
            news = {} if self._others is None else self._others.news()
            latest = {**latest, **{name: word for name, word in news.items() if is_newer(word, latest.get(name))}}
        finally:
            self._show(replace(said, stored=stored, latest=latest))
        if counts is not None:
            self._next_count = self._clock.monotonic() + COUNT_S
        try:
            self._save(said.unsaved)
        except StorageError as error:  # a full disk can still be read: whom an edge may speak for holds
            return Reading(free, counts, members, live, shadows, desired, news, error)
        return Reading(free, counts, members, live, shadows, desired, news, None)

    def _save(self, unsaved: Mapping[str, Told]) -> None:
        if unsaved:
            states = {camera: state for camera, (state, _) in unsaved.items()}
            self._roster.heard(states, {camera: heard for camera, (_, heard) in unsaved.items()})

    def _show(self, said: Said) -> None:
        self._metrics.set("edges_connected", said.alive)
        enrolled = {name for names in self._members.cameras.values() for name in names}
        shown = said.stored.keys() | enrolled
        for camera in shown - self._announced:
            self._metrics.announce(camera)
        self._announced |= shown
        # A camera whose frames are all gone has no counts.
        stored = {camera: said.stored.get(camera, _NONE) for camera in shown}
        self._metrics.set_each("store_bytes", {camera: counts.bytes for camera, counts in stored.items()})
        # None of one that was removed or revoked are labelled, and it has no rounds.
        used = {camera: counts if camera in enrolled else _NONE for camera, counts in stored.items()}
        self._metrics.set_each("teacher_queue", {camera: counts.asking for camera, counts in used.items()})
        self._metrics.set_each("frames_waiting", {camera: counts.waiting for camera, counts in used.items()})
        self._show_liveness(said.latest, enrolled)

    def _show_liveness(self, latest: Mapping[str, Told], enrolled: Set[str]) -> None:
        """Export who was heard of when: an edge behind a router can't be scraped. One that never spoke has none, and
        neither has one that was removed or revoked, and is no longer waited for.
        """
        now = self._clock.now()
        silent: dict[str, float] = {}
        live: dict[str, float] = {}
        for camera in self._before.keys() | latest.keys():
            if camera in enrolled:
                state, heard = latest.get(camera, (None, self._before.get(camera, now)))
                silent[camera] = max(0.0, now - heard)
                live[camera] = float(state_of(False, state, heard, now) == "live")
        self._metrics.set_each("camera_heard_seconds", silent)
        self._metrics.set_each("camera_live", live)
