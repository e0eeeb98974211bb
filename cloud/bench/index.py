"""`culling bench index`: what a month of many cameras' rows costs the service, against an empty index.

A real service runs on the index, and its edges beat as often as real ones. Beats, scrapes and the page's requests are
measured from outside; the page's events and the upkeep, which nobody outside waits for, on a second connection to the
same index.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from culling.cloud.bench.crowd import Crowd, Folder, acked_by_service, camera_state, no_model, service
from culling.cloud.page.board import Board
from culling.cloud.settings import CloudSettings, ServiceSettings, sqlite_url
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import FULL_SHARE, FrameLifecycle
from culling.cloud.store.registry import Registry
from culling.cloud.store.retention import forget_records
from culling.cloud.store.rounds import Rounds
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, Stated
from culling.common.clock import DAY_S, SystemClock
from culling.common.frame import Detections
from culling.common.wire.messages import CameraState, to_wire

DAYS = 30
"""As long as frames are kept by default."""

HISTORY_DAYS = 1
"""What the page draws; the service keeps seven times as much."""

ROUNDS_A_DAY = 6
FRAME_BYTES = 100_000
CACHE_KB = 4_000_000
"""For the rows that are made beforehand: SQLite's own would be read and written anew with every few rows."""

EVENT_S = 0.25
"""As often as the page's rows are brought up to date, and as a scrape and a request of the page come here."""

BEAT_S = 5.0
"""As often as an edge beats."""

RATE = "beats/s"

Figures = dict[str, float]
"""By what was measured: the 99th percentile, in milliseconds; and the `RATE` of beats that were answered."""

_FRAMES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
INSERT INTO frames (id, edge_key, boot, seq, camera, state, frame, pts, captured, received, reason, loss, model_id,
                    width, height, sha256, bytes, held_out, detections, labels, round, kept)
SELECT lower(hex(randomblob(16))), 'edge', 'bench', i, 'camera-' || (i % :cameras),
       CASE WHEN i * 5 < :rows THEN 'expired' ELSE 'stored' END, i, i, at, at,
       CASE abs(random()) % 8 WHEN 0 THEN 'audit' WHEN 1 THEN 'manual' ELSE 'hard' END, i % 100, 'none', 640, 480,
       lower(hex(randomblob(32))), CASE WHEN i * 5 < :rows THEN 0 ELSE :size END, i / :cameras % 5 = 0,
       CASE WHEN i * 5 < :rows THEN NULL ELSE :detections END, CASE WHEN i * 5 >= :rows AND i % 7 THEN :detections END,
       CASE WHEN i * 50 < :rows * 49 THEN turn END, CASE WHEN i / :cameras % 5 = 1 AND i * 5 >= :rows THEN turn END
FROM (SELECT i, :now - :span * 1.25 * (1 - i * 1.0 / :rows) AS at,
             1 + i % :cameras + :cameras * CAST(:rounds * (i * 1.0 / :rows) AS INTEGER) AS turn FROM n)
"""
_ROUNDS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :cameras * :rounds)
INSERT INTO rounds (id, camera, trigger, state, started, finished, crashes, stages, report, reason, model_id)
SELECT 1 + i, 'camera-' || (i % :cameras), 'new-frames', 'published', at - 600, at, 0, '{"cull": {}}',
       json_object('newest_capture', at - 700, 'labelled', 256, 'kept', 64, 'note', hex(randomblob(600))), '',
       'camera-' || (i % :cameras) || '-' || (i / :cameras)
FROM (SELECT i, :now - :span * (1 - i * 1.0 / (:cameras * :rounds)) AS at FROM n)
"""
_MODELS = """
INSERT INTO models (camera, counter, model_id, state, origin, round, created, expires, sha256, size, scale, long_side,
                    classes, golden, manifest)
SELECT camera, (id - 1) / :cameras, model_id,
       CASE (id - 1) / :cameras WHEN :rounds - 1 THEN 'live' WHEN :rounds - 2 THEN 'previous' ELSE 'retired' END,
       CASE WHEN id <= :cameras THEN 'base' ELSE 'round' END, id, finished, finished + 3e7, lower(hex(randomblob(32))),
       1000, 1.0, 640, '[]', x'90', randomblob(600)
FROM rounds
"""
_SWAPS = """
INSERT INTO swaps (camera, model_id, outcome, reason, gap_ms, at, received)
SELECT camera, model_id, 'live', '', 10, finished + 60, finished + 60 FROM rounds
"""
_HISTORY = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :cameras * :minutes)
INSERT INTO history (camera, minute, seen, inferred, dropped, evicted, acked, hard, audit, bootstrap, manual, threshold,
                     loss_mean)
SELECT 'camera-' || (i / :minutes), CAST(:now / 60 AS INTEGER) - :minutes + i % :minutes, 600, 600, 0, 0, 1, 1, 0, 0, 0,
       1.0, 1.0 FROM n
"""


def index_command(
    cameras: Annotated[int, typer.Option(min=1, help="cameras")] = 200,
    each: Annotated[int, typer.Option("--each", min=1, help="cameras of an edge")] = 1,
    rows: Annotated[int, typer.Option("--frames", min=100, help="rows of frames, a fifth of them expired")] = 1_000_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="how long each side is measured")] = 30.0,
    folder: Folder = None,
    rounds: bench.RoundCount = 1,
    as_json: Json = False,
) -> None:
    """Beats, page, scrapes and upkeep on an index of 200 cameras and 30 days, against an empty one; p99 in ms.

    Every edge beats every five seconds, one after another; how many beats a second came of that is stated.
    """
    if cameras % each:
        raise typer.BadParameter(f"{cameras} cameras cannot be dealt out to edges of {each}", param_hint="--each")
    full: list[Figures] = []
    empty: list[Figures] = []
    for _ in range(rounds):
        for found, many in ((empty, 0), (full, rows)):
            with TemporaryDirectory(prefix="culling-bench-", dir=folder) as name:
                found.append(measure(Path(name), cameras, each, many, seconds))
    comparisons = [
        Comparison(
            what,
            Measured(f"p99 with {rows} rows of frames", "ms", tuple(one[what] for one in full)),
            Measured("p99 with an empty index", "ms", tuple(one[what] for one in empty)),
            None,
        )
        for what in full[0]
        if what != RATE
    ]
    beats = Measured(f"beats answered, of {cameras // each / BEAT_S:g}", "/s", tuple(one[RATE] for one in full))
    bench.print_report(Report("index", tuple(comparisons), (Stated(beats),), machine=bench.machine("none")), as_json)


def measure(folder: Path, cameras: int, each: int, rows: int, seconds: float) -> Figures:
    """Return what a service costs that runs in `folder` with `rows` of frames, and all that belongs to them."""
    fill = partial(fill_index, cameras=cameras, rows=rows, now=time.time())
    runs = live_model if rows else no_model
    with service(folder, cameras // each, fill, each) as served:
        with Crowd([served.endpoint], served.server_key, served.secrets, acked_by_service, each, runs) as crowd:
            crowd.greet()
            found = _from_outside(crowd, served.metrics, served.page, seconds)
        index = Index(sqlite_url(folder / "cloud" / "index.sqlite"))
        settings = CloudSettings(service=ServiceSettings(data_dir=folder / "cloud"))
        events = _events(index, settings, cameras, seconds, runs)
        found["page's first event"] = 1000 * next(events)  # reads the day of all of them, once
        found["page event"] = _p99(events)
        found["upkeep pass"] = _p99(_upkeep(index, folder, cameras, rows))
        index.close()
    return found


def fill_index(path: Path, cameras: int, rows: int, now: float) -> None:
    """Write `rows` of frames, evenly over `DAYS` and a quarter more, and the rounds, models, swaps and minutes.

    Nobody else may have the index open: it has no journal meanwhile.
    """
    if not rows:
        return
    told: dict[str, Any] = {
        "cameras": cameras,
        "rows": rows,
        "now": now,
        "span": DAYS * DAY_S,
        "rounds": DAYS * ROUNDS_A_DAY,
    }
    told |= {"size": FRAME_BYTES, "minutes": HISTORY_DAYS * 24 * 60}
    boxes = Detections(
        np.tile(np.array([1, 1, 9, 9], np.float32), (10, 1)), np.full(10, 0.9, np.float32), np.zeros(10, np.int64)
    )
    told["detections"] = msgspec.msgpack.encode(to_wire(boxes))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KB}"):  # nothing to lose yet
            connection.execute(f"PRAGMA {pragma}")
        for statement in (_FRAMES, _ROUNDS, _MODELS, _SWAPS, _HISTORY):
            connection.execute("BEGIN")
            connection.execute(statement, told)
            connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def live_model(camera: str) -> str:
    """Return the id of the model that `fill_index` has a camera run."""
    return f"{camera}-{DAYS * ROUNDS_A_DAY - 1}"


def _from_outside(crowd: Crowd, metrics: str, page: str, seconds: float) -> Figures:
    beats, scrapes, reads = list[float](), list[float](), list[float]()
    camera = f"/api/cameras/{crowd.cameras[0]}"
    path = cycle(("/api/fleet", "/api/rounds?limit=12", camera, f"{camera}/frames", f"{camera}/models"))
    edges = cycle(range(len(crowd.cameras)))
    begun = time.monotonic()
    for turn in count():
        if (gone := time.monotonic() - begun) > seconds and turn:
            break
        while len(beats) <= gone * len(crowd.cameras) / BEAT_S:
            beats.append(crowd.beat(next(edges)))
        scrapes.append(_timed(partial(_fetch, f"{metrics}/metrics")))
        reads.append(_timed(partial(_fetch, page + next(path))))
        time.sleep(max(0.0, begun + EVENT_S * (turn + 1) - time.monotonic()))
    rate = len(beats) / (time.monotonic() - begun)
    return {"beat": _p99(beats), "scrape": _p99(scrapes), "page request": _p99(reads), RATE: rate}


def _events(
    index: Index, settings: CloudSettings, cameras: int, seconds: float, runs: Callable[[str], str]
) -> Iterator[float]:
    """Yield how long each event of the page takes to build; every edge beats once in five seconds."""
    clock, told, revision = SystemClock(), dict[str, tuple[CameraState, float]](), 0
    board = Board(index, lambda: told, clock, settings)
    deadline = time.monotonic() + seconds
    for number in count():
        if time.monotonic() > deadline and number > 1:
            return
        for place in range(number % 20, cameras, 20):
            name = f"camera-{place}"
            told[name] = (camera_state(name, number, runs(name)), clock.now())
        started = time.perf_counter()
        board.refresh()
        board.since(revision)
        yield time.perf_counter() - started
        revision = board.revision
        time.sleep(EVENT_S)


def _upkeep(index: Index, folder: Path, cameras: int, rows: int) -> Iterator[float]:
    """Yield how long each pass of the upkeep takes where every camera is at its quota, and has to give up a frame."""
    clock = SystemClock()
    store = FrameStore(index, folder / "none" / "frames", clock)
    lifecycle, registry, turns = FrameLifecycle(index, store, clock), Registry(index), Rounds(index)
    for number in range(10):
        each = 0.8 * rows / cameras - 20 - number
        started = time.perf_counter()
        registry.wanted_files()
        lifecycle.expire(max(1, int(each * FRAME_BYTES / FULL_SHARE)), DAYS)
        turns.unfinished()
        forget_records(index, clock.now() - 365 * DAY_S)
        turns.last_finished()
        yield time.perf_counter() - started


def _fetch(url: str) -> None:
    with urllib.request.urlopen(url, timeout=120) as answer:
        answer.read()


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _p99(values: Iterator[float] | list[float]) -> float:
    """Return the 99th percentile of seconds in milliseconds; of few values the greatest."""
    found = sorted(values)
    return 1000 * (statistics.quantiles(found, n=100)[98] if len(found) >= 100 else found[-1])
