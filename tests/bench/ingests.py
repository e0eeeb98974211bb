"""What a cluster takes in: `python tests/bench/ingests.py [--edges N] [--frames N] [--json]`.

Durable frames/s of the form that keeps its index in PostgreSQL and its pictures in S3, with one ingest and with three
behind HAProxy, against the embedded form, a service on SQLite and a folder, and against a bare loop: PUT the same bytes
into the same S3 server, INSERT and COMMIT in the same PostgreSQL, one after another, alone and three at once. All sides
are measured in turn. At the end, each frame that was acked has to have its row and its picture; else it exits with 1.

PostgreSQL fsyncs each commit here, unlike in tests. The S3 server is one Python process that keeps objects in memory,
rounds * frames * size bytes for each of four sides, and makes nothing durable. It may well be what bounds both the
cluster and the bare loop, and shares the cores with all the rest: the ratios count, not the figures.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import obstore
import psutil
import psycopg
import sqlalchemy as sa
from obstore.store import S3Store

from culling.cloud.bench.crowd import (
    MEASURED,
    WINDOW,
    Crowd,
    Parts,
    acked_by_service,
    enroll,
    frames,
    service,
    serving,
)
from culling.cloud.settings import load_settings
from culling.cloud.store import index as tables
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.objects.objects import open_objects
from culling.common import bench
from culling.common.bench import Comparison, Measured, Report, Stated, at_least
from culling.common.errors import CullingError
from culling.common.wire.messages import unpack
from support.haproxy import HAPROXY, Haproxy
from support.postgres import Postgres, binaries
from support.s3 import S3
from support.scrape import Scrape

CROWD = (1, 3)
"""Ingests of a cluster, and loops at once."""
EMBEDDED = "embedded"
WANTED = 0.5
UNIT = "frames/s"
LEAST_BYTES = 2000

Name = tuple[str, int]
"""What an ack names a frame by: the start of its edge, and its number since."""


@dataclass(frozen=True)
class Kept:
    """What one side said is durable, and what is there: names of rows, and of those whose picture is there too; and how
    many frames each of its services stored.
    """

    side: str
    acked: frozenset[Name]
    rows: Sequence[Name]
    whole: frozenset[Name]
    each: Sequence[int] = ()

    @property
    def durable(self) -> bool:
        """Whether each acked frame, and nothing else, has one row and a picture."""
        return self.acked == self.whole and sorted(self.acked) == sorted(self.rows)

    def __str__(self) -> str:
        shares = f"; stored by each ingest: {', '.join(map(str, self.each))}" if len(self.each) > 1 else ""
        told = f"{len(self.acked)} acked, {len(self.rows)} rows, {len(self.whole)} of them with a picture"
        return f"{self.side}: {told}{shares}"


@dataclass(frozen=True)
class Form:
    """A running form of the service, with what its edges need, and where it keeps rows and pictures."""

    endpoints: Sequence[str]
    server_key: str
    secrets: Mapping[str, str]
    store_url: str | sa.URL
    objects: str | None
    data_dir: Path
    metrics: Sequence[str]


class Edges:
    """All edges of one form; they remember what was acked."""

    def __init__(self, side: str, form: Form) -> None:
        self._side, self._form = side, form
        self._acked: set[Name] = set()
        self.crowd = Crowd(form.endpoints, form.server_key, form.secrets, self._take)

    def deliver(self, dealt: Sequence[Sequence[Parts]]) -> float:
        """Send the frames of each edge; return how many were acked per second in all."""
        self.crowd.greet()  # a balancer ends links that were silent while other sides were measured
        return self.crowd.deliver(dealt)

    def kept(self) -> Kept:
        """Return what was acked beside what is there."""
        place = open_objects(self._form.objects, self._form.data_dir)
        pictures = {Path(item.name).stem.partition("-")[0] for item in place.list("frames")}
        held = tables.frames.c
        index = Index(self._form.store_url)
        with index.read() as connection:
            found = connection.execute(sa.select(held.boot, held.seq, held.id).where(held.state == "stored")).all()
        index.close()
        rows = [(row.boot, row.seq) for row in found]
        whole = frozenset((row.boot, row.seq) for row in found if row.id in pictures)
        each = [int(Scrape(address).sum("frames_stored_total")) for address in self._form.metrics]
        return Kept(self._side, frozenset(self._acked), rows, whole, each)

    def _take(self, parts: Parts) -> bool:
        if acked := acked_by_service(parts):
            ack, _ = unpack(parts, "cloud")
            self._acked.add((ack.boot, ack.seq))
        return acked


class Bare:
    """Loops that PUT a picture, then INSERT its row, and do nothing else: `at_once` of them, which share the frames and
    have a connection each. A row holds what a frame's message says of it.
    """

    def __init__(self, side: str, url: str, bucket: str, at_once: int) -> None:
        self._side = side
        self._store = S3Store.from_url(bucket, client_options={"allow_http": True})
        address = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        # In autocommit an INSERT is durable once it is answered: one round trip, where BEGIN and COMMIT take three.
        self._connections = [psycopg.connect(address, autocommit=True) for _ in range(at_once)]
        self._connections[0].execute(
            "CREATE TABLE bare (boot TEXT, seq BIGINT, message BYTEA NOT NULL, PRIMARY KEY (boot, seq))"
        )
        self._pool = ThreadPoolExecutor(at_once)
        self._done: set[Name] = set()

    def close(self) -> None:
        """Close every connection."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def deliver(self, dealt: Sequence[Sequence[Parts]]) -> float:
        """Write the frames; return how many became durable per second."""
        todo = []
        for header, jpeg in itertools.chain.from_iterable(dealt):
            frame, _ = unpack([header, jpeg], "edge")
            todo.append((frame.boot, frame.seq, header, jpeg))
        loops = len(self._connections)
        started = time.perf_counter()
        running = [self._pool.submit(self._write, at, todo[at::loops]) for at in range(loops)]
        for one in running:
            one.result()
        taken = time.perf_counter() - started
        self._done |= {(boot, seq) for boot, seq, *_ in todo}
        return len(todo) / taken

    def kept(self) -> Kept:
        """Return what was written beside what is there."""
        there = {one["path"] for page in obstore.list(self._store) for one in page}
        rows = [(boot, seq) for boot, seq in self._connections[0].execute("SELECT boot, seq FROM bare")]
        whole = frozenset((boot, seq) for boot, seq in rows if f"{boot}-{seq}.jpg" in there)
        return Kept(self._side, frozenset(self._done), rows, whole)

    def _write(self, at: int, todo: Iterable[tuple[str, int, bytes, bytes]]) -> None:
        for boot, seq, header, jpeg in todo:
            obstore.put(self._store, f"{boot}-{seq}.jpg", jpeg)
            self._connections[at].execute("INSERT INTO bare VALUES (%s, %s, %s)", (boot, seq, header))


@dataclass(frozen=True)
class Found:
    """Frames/s by side, and how many cores the S3 server was busy on meanwhile, in every round; what is there after."""

    speeds: Mapping[str, tuple[float, ...]]
    busy: Mapping[str, tuple[float, ...]]
    kept: Sequence[Kept]
    balanced: str


class Trial:
    """Everything that runs, in the order of its life. Raises `CullingError` where it cannot start."""

    def __init__(self, within: Path | None, edges: int, count: int, size: int) -> None:
        self._within, self._edges, self._count, self._size = within, edges, count, size
        self._held = ExitStack()
        self._sides: dict[str, Edges | Bare] = {}
        self._cameras: Sequence[str] = ()
        self._busy: dict[str, list[float]] = {}
        self._balanced = "edges dealt to the ingests in turn, as HAProxy is not installed"

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def start(self) -> None:
        """Start everything, until every side has taken a frame of each edge."""
        if (programs := binaries()) is None:
            raise CullingError("PostgreSQL is needed: apt-get install postgresql")
        name = self._held.enter_context(tempfile.TemporaryDirectory(prefix="culling-bench-", dir=self._within))
        self.folder = Path(name)
        self._postgres = self._held.enter_context(closing(Postgres(programs, durable=True, within=self._within)))
        self._s3 = self._held.enter_context(closing(S3(self._new("s3"))))
        os.environ.update(self._s3.environment)  # ours and the services' clients read it
        self._bucket = self._s3.make("culling")
        forms = {EMBEDDED: self._embedded()} | {_ingests(number): self._cluster(number) for number in CROWD}
        for side, form in forms.items():
            self._sides[side] = edges = Edges(side, form)
            self._held.enter_context(edges.crowd)
        for number in CROWD:
            bare = Bare(_loops(number), self._postgres.empty(), f"{self._bucket}/bare-{number}", number)
            self._sides[_loops(number)] = self._held.enter_context(closing(bare))
        self._cameras = tuple(forms[EMBEDDED].secrets)
        for side in self._sides.values():
            side.deliver(frames(self._cameras, self._edges, self._size))

    def measure(self, rounds: int) -> Found:
        """Measure every side once a round."""
        sides = [self._measured(name) for name in self._sides]
        speeds = dict(zip(self._sides, bench.in_turn(rounds, *sides), strict=True))
        busy = {name: tuple(values) for name, values in self._busy.items()}
        return Found(speeds, busy, [side.kept() for side in self._sides.values()], self._balanced)

    def _measured(self, name: str) -> Callable[[], float]:
        server, side = psutil.Process(self._s3.pid), self._sides[name]

        def measure() -> float:
            dealt = frames(self._cameras, self._count, self._size)
            before = _cpu_s(server)
            speed = side.deliver(dealt)
            self._busy.setdefault(name, []).append((_cpu_s(server) - before) * speed / self._count)
            return speed

        return measure

    # Forms

    def _embedded(self) -> Form:
        folder = self._new("embedded")
        served = self._held.enter_context(service(folder, self._edges))
        data_dir = folder / "cloud"
        store_url = load_settings(None, {"service.data_dir": data_dir}).store_url
        return Form([served.endpoint], served.server_key, served.secrets, store_url, None, data_dir, [served.metrics])

    def _cluster(self, ingests: int) -> Form:
        """Start so many ingests that share an empty database and a prefix of the bucket."""
        home = self._new(f"cluster-of-{ingests}")
        keys, url, objects = load_keys(home), self._postgres.take(), f"{self._bucket}/cluster-{ingests}"
        shared = {"store.url": url, "store.objects": objects, "service.curve_key_file": home / "keys" / "curve.secret"}
        secrets = enroll(url, self._edges)
        places = [self._new(f"{home.name}/ingest-{number}") / "cloud" for number in range(ingests)]
        services = [
            serving(load_settings(None, {**MEASURED, **shared, "service.data_dir": place}), "--role", "ingest")
            for place in places
        ]
        with ThreadPoolExecutor(ingests) as pool:  # each takes seconds to start
            endpoints = [endpoint for endpoint, _ in pool.map(self._held.enter_context, services)]
        metrics = [(place / "metrics").read_text("utf-8").strip() for place in places]
        if ingests > 1 and HAPROXY is not None:
            health = [urlsplit(address).port or 0 for address in metrics]
            backends = [one.removeprefix("tcp://") for one in endpoints]
            balancer = Haproxy(home, list(zip(backends, health, strict=True)))
            endpoints = [self._held.enter_context(closing(balancer)).endpoint]
            self._balanced = "HAProxy before the ingests"
        return Form(endpoints, keys.curve_public, secrets, url, objects, home, metrics)

    def _new(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name


def report_of(found: Found, edges: int, size: int) -> Report:
    """Return the report: what is wanted against the bare loops, and what is stated beside it."""
    sides = {side: Measured(_told(side), UNIT, values) for side, values in found.speeds.items()}
    bare = [
        Comparison(_ingests(number), sides[_ingests(number)], sides[_loops(number)], at_least(WANTED))
        for number in CROWD
    ]
    beside = [
        Comparison(f"{_ingests(number)} / {EMBEDDED}", sides[_ingests(number)], sides[EMBEDDED], None)
        for number in CROWD
    ]
    one, three = CROWD
    scaling = [
        Comparison(f"{name(three)} / {name(one)}", sides[name(three)], sides[name(one)], None)
        for name in (_ingests, _loops)
    ]
    busy = [
        Stated(Measured(f"busy S3 server, {side}", "cores", values))
        for side, values in found.busy.items()
        if side != EMBEDDED
    ]
    notes = (
        f"{edges} edges with a window of {WINDOW}, frames of {size} bytes; {found.balanced}; PostgreSQL fsyncs.",
        "The S3 server is one Python process, keeps all in memory and may bound cluster and bare loop alike. It shares "
        "the cores below with PostgreSQL, the services and the edges: the ratios count.",
        *map(str, found.kept),
    )
    return Report("ingests", (*bare, *beside, *scaling), tuple(busy), notes, bench.machine("none"))


def _ingests(number: int) -> str:
    return f"{number} ingest{'s' * (number > 1)}"


def _loops(number: int) -> str:
    return f"{number} bare loop{'s' * (number > 1)}"


def _told(side: str) -> str:
    if side == EMBEDDED:
        return "one service on SQLite and a folder"
    return f"{side}, PUT and INSERT" if "bare" in side else f"{side} on PostgreSQL and S3"


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=60, help="edges of each form, at least 3")
    parser.add_argument("--frames", type=int, default=600, help="frames a side and round")
    parser.add_argument("--size", type=int, default=100_000, help=f"bytes of a frame, at least {LEAST_BYTES}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side; the median counts")
    parser.add_argument(
        "--folder", type=Path, help="a folder on the disk that is measured, open to PostgreSQL; default: the system's "
        "temporary one",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    if asked.edges < max(CROWD) or asked.size < LEAST_BYTES or min(asked.frames, asked.rounds) < 1:
        parser.error(f"wanted: --edges of {max(CROWD)}, --size of {LEAST_BYTES}, --frames and --rounds of 1 or more")
    return asked


def main() -> int:
    """Measure, print, and return 0 where acked frames were durable; whether a ratio is as wanted is only stated."""
    asked = _asked()
    # A shell that starts this in its background ignores SIGINT, and what is started here would stay.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))
    within = asked.folder and asked.folder.resolve()
    try:
        with Trial(within, asked.edges, asked.frames, asked.size) as trial:
            trial.start()
            found = trial.measure(asked.rounds)
    except CullingError as error:
        print(error, file=sys.stderr)
        return 1
    bench.print_report(report_of(found, asked.edges, asked.size), asked.json)
    if wrong := [kept for kept in found.kept if not kept.durable]:
        print("acked, and not what is there:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
