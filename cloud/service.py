"""The cloud service, from start to end, in three roles: ingest takes frames from edges, control labels, trains and
publishes, and the page shows it all. One process has all three unless it is told otherwise. A fourth role, labels, only
labels, on as many further machines as there are teachers.

Roles in processes of their own know of each other only what is in the index, and may be many: edges speak to any
ingest, people to any page, and one control is elected while the others stand by.

No state is held in memory alone: the process may die at any moment, and its next start goes on from the index. It never
imports torch. The address it listens on stands in `endpoint` of the data folder, that of its metrics in
`metrics`, that of the page in `page`, while it runs.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from enum import StrEnum
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from culling.cloud.check.checks import check_student, check_teacher
from culling.cloud.control.candidate import Candidate
from culling.cloud.control.control import Control
from culling.cloud.control.executor import check_executor, write_settings
from culling.cloud.control.labels import Labels
from culling.cloud.link.ingest import Ingest
from culling.cloud.page.dashboard import Dashboard
from culling.cloud.settings import CloudSettings
from culling.cloud.store.folders import only_one
from culling.cloud.store.index import Index
from culling.cloud.store.keys import curve_secret_of, keys_of, signing_key_of
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.roster import Roster, Told, Words
from culling.common.address import http_url
from culling.common.atomic import write_atomic
from culling.common.clock import Clock, SystemClock
from culling.common.errors import SettingsError, StorageError
from culling.common.metrics import Metrics
from culling.common.process import notify
from culling.common.process.health import HealthServer
from culling.common.traces.settings import open_traces

log = structlog.get_logger(__name__)

TURN_S = 0.5
"""A request is carried out within this time, and a control that stands by acts so long after the one before is gone."""


class Role(StrEnum):
    """What a process of the service does."""

    INGEST = "ingest"
    CONTROL = "control"
    PAGE = "page"
    LABELS = "labels"


WHOLE = frozenset({Role.INGEST, Role.CONTROL, Role.PAGE})
"""The roles of a service in one process. It has no use for labels, since control labels too."""


class Service:
    """What `culling cloud serve` runs in one process. Raises a CullingError from `run` when it can't start or go on."""

    def __init__(self, settings: CloudSettings, roles: Collection[Role] = WHOLE, clock: Clock | None = None) -> None:
        self._settings = settings
        self._roles = frozenset(roles)
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._control: Candidate | None = None
        self._labels: Labels | None = None
        self._ingest: Ingest | None = None
        self._page: Dashboard | None = None

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP."""
        _check_apart(self._settings, self._roles)
        _allow_many_connections()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        with only_one(self._settings.data_dir):
            self._startup()
            try:
                self._main_loop()
            finally:
                self._shutdown()

    # In the order of its life

    def _startup(self) -> None:
        self._forget_addresses()  # those of a service that was killed
        if Role.CONTROL in self._roles:
            check_student(self._settings)
        if self._roles & {Role.CONTROL, Role.LABELS}:
            check_teacher(self._settings)  # else the first to tell would be a round, hours later
        if Role.CONTROL in self._roles:
            # Before it stands: Ray takes seconds to answer, in which nobody would be control.
            check_executor(write_settings(self._settings), self._settings)
        if self._roles == WHOLE:
            keys_of(self._settings.service)  # makes them at a first start, as no other process may
        self._index = Index(self._settings.store_url)
        registry = CollectorRegistry()
        self._metrics = Metrics(registry, "cloud", self._many())
        # Whatever its roles: what labels and trains opens its own, and the first to tell would be a round, hours later.
        self._traces = open_traces(self._settings.traces, "cloud", self._metrics)
        if Role.CONTROL in self._roles:
            self._control = self._stand()
        self._frames = frame_store(self._settings, self._index, self._clock)
        settled = self._frames.reconcile()
        if Role.INGEST in self._roles:
            self._ingest = self._open_ingest()
        metrics = self._settings.metrics
        self._health = HealthServer(metrics.host, metrics.port, registry, self._ready)
        if Role.PAGE in self._roles:
            self._page = self._open_page()
        if Role.LABELS in self._roles:
            self._labels = Labels(self._settings, self._index, self._frames, self._metrics, self._clock)
        if self._ingest is not None:
            self._ingest.start()
        self._tell_addresses(http_url(metrics.host, self._health.port))
        notify.tell(notify.READY)
        where = {"endpoint": self._ingest and self._ingest.endpoint, "page": self._page and self._page.url}
        log.info("service_started", roles=sorted(self._roles), **where, **asdict(settled))

    def _main_loop(self) -> None:
        while not self._stopping.wait(TURN_S):
            notify.tell(notify.ALIVE)
            if self._ingest is not None and self._ingest.failure is not None:
                raise StorageError(f"ingest ended: {self._ingest.failure}") from self._ingest.failure
            if self._control is not None:
                self._control.turn()
                self._refuse_a_second(self._control)
            if self._labels is not None:
                self._labels.turn()

    def _shutdown(self) -> None:
        notify.tell(notify.STOPPING)
        self._forget_addresses()
        if self._control is not None:
            self._control.stop()
        if self._labels is not None:
            self._labels.stop()
        if self._ingest is not None:
            self._ingest.stop()
        if self._page is not None:
            self._page.close()
            self._seen.close()
        self._health.close()
        self._index.close()
        if self._traces is not None:
            self._traces.close()
        log.info("service_stopped")

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping.is_set():  # it may die at any moment: the next start goes on from there
            os._exit(128 + number)
        self._stopping.set()

    def _ready(self) -> tuple[bool, str]:
        working = (self._ingest, self._control, self._labels)
        problem = next((part.problem for part in working if part is not None and part.problem), "")
        told = ["frames are accepted"] if self._ingest is not None else []
        told += [self._control.told] if self._control is not None else []
        told += ["frames are labelled"] if self._labels is not None else []
        return not problem, problem or ", ".join(told or ["the page is served"])

    def _many(self) -> bool:
        """Return whether there are too many cameras for series of each: decided once, so that no series changes."""
        enrolled, limit = sum(map(len, Roster(self._index).members().cameras.values())), self._settings.metrics.cameras
        merged = not limit or enrolled > limit
        if merged:
            log.info("metrics_merged", cameras=enrolled, limit=limit)
        return merged

    # The roles

    def _stand(self) -> Candidate:
        service = self._settings.service
        signing = keys_of(service).signing if self._roles == WHOLE else signing_key_of(service)

        def build(index: Index) -> Control:
            return Control(self._settings, index, signing, self._metrics, self._clock)

        candidate = Candidate(self._index, build, self._metrics)
        if not candidate.stand() and candidate.problem:
            raise StorageError(candidate.problem)
        self._refuse_a_second(candidate)
        return candidate

    def _refuse_a_second(self, control: Candidate) -> None:
        """Raise StorageError where another service is control that cannot see the pictures of this one."""
        if control.elected or control.problem or self._settings.shared:
            return
        raise StorageError(
            "store.url: another service works on that index, on this machine or another: stop it, or have both keep "
            "their pictures in one bucket (store.objects)"
        )

    def _open_ingest(self) -> Ingest:
        settings, files = self._settings, model_files(self._settings)
        words = Words(self._index, self._clock) if settings.shared else None
        secret = curve_secret_of(settings.service)
        stages = (self._index, self._frames, files, self._metrics, self._clock)
        return Ingest(settings, secret, *stages, words, self._traces)

    def _open_page(self) -> Dashboard:
        self._seen = self._index.apart()  # else many who watch could keep ingest waiting for a connection
        latest = self._latest()
        return Dashboard(self._settings, self._seen, self._frames, latest, self._clock, self._metrics)

    def _latest(self) -> Callable[[], Mapping[str, Told]]:
        """Return what gives the last word on every camera: an ingest of this process knows it first."""
        if (ingest := self._ingest) is not None:
            return lambda: ingest.latest
        return Words(self._seen, self._clock).now

    # Where it listens

    def _tell_addresses(self, metrics: str) -> None:
        told = {"metrics": metrics}
        told |= {"page": self._page.url} if self._page is not None else {}
        told |= {"endpoint": self._ingest.endpoint} if self._ingest is not None else {}
        for name, address in told.items():
            write_atomic(self._settings.data_dir / name, f"{address}\n".encode())

    def _forget_addresses(self) -> None:
        for name in ("endpoint", "metrics", "page"):
            (self._settings.data_dir / name).unlink(missing_ok=True)


def _check_apart(settings: CloudSettings, roles: Collection[Role]) -> None:
    """Raise SettingsError where roles are to be apart and could not see what the others keep."""
    if {Role.CONTROL, Role.LABELS} <= set(roles):
        raise SettingsError("--role: control labels by itself: give labels to processes without control")
    if set(roles) == WHOLE or settings.shared:
        return
    wanted = "roles in processes of their own meet in PostgreSQL and in a bucket, "
    if settings.store.objects is None and not settings.store.embedded:
        raise SettingsError(
            f"--role: {wanted}and pictures are in the data folder: set store.objects, or leave --role out"
        )
    raise SettingsError(
        f"--role: {wanted}and this index is a file: set store.url and store.objects, or leave --role out"
    )


def _allow_many_connections() -> None:
    """Raise the limit on open files, so that strangers who only connect leave enough for the store."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
