"""F09, F15 and F16: a cloud that is away for a day, one to which all edges come back at once, one that lags."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from culling.cloud.store.index import frames
from culling.common.wire.messages import HardFrame
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.fleet import Fleet
from support.forms import Tell, forms
from support.scrape import Scrape
from support.site import CloudEnd, Site, free_port, moving_clip
from support.uplink import Uplink
from support.waiting import wait_until

pytestmark = pytest.mark.fault
HOURS = 24
CAP = 1 << 20
RATE = 400_000
FPS = 25


@forms("per_hour", fast=20, full=2000)
def test_f09_a_day_without_a_cloud_keeps_the_best_and_drains_in_order(
    per_hour: int, tmp_path: Path, tell: Tell
) -> None:
    """The selector's default is 40 frames an hour; in the full form an hour brings 2,000."""
    chance = random.Random(9)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    cloud = CloudState(tmp_path, schedule={"hold": True}, service={"endpoint": endpoint})
    clock = FakeClock()
    uplink = Uplink(tmp_path, cloud, endpoint, max_bytes=CAP, clock=clock, upload_bytes_per_s=RATE)
    losses: dict[int, float] = {}

    def loss(seq: int) -> float:
        return losses.setdefault(seq, chance.uniform(0, 20))

    largest, memory = 0, psutil.Process().memory_info().rss
    for _ in range(HOURS):
        uplink.spool_frames(per_hour, loss=loss, padding=2_000)
        clock.advance(3600)
        assert uplink.adds_up()
        assert uplink.counts().bytes <= CAP
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.glob(f"{CAMERA}.spool*")))
    before, grown = uplink.counts(), psutil.Process().memory_info().rss - memory
    kept = {spooled.seq for spooled in uplink.spool.ready(100_000)}
    best = set(sorted(losses, key=lambda seq: losses[seq])[-len(kept) :])
    assert len(kept & best) >= len(kept) - 1, "the least valuable went first"

    with Draining(uplink, clock), ServiceProcess(cloud) as service:
        began = time.monotonic()
        wait_until(lambda: uplink.counts().ready == 0, 60 + before.bytes / RATE * 3)
        seconds = time.monotonic() - began
        assert service.terminate() == 0
    counts = uplink.counts()
    query = sa.select(frames.c.seq).order_by(frames.c.received, frames.c.id)
    with cloud.index.read() as connection:
        arrived = [seq for (seq,) in connection.execute(query)]
        size = connection.execute(sa.select(sa.func.sum(frames.c.bytes))).scalar()
    tell("F09", simulated_hours=HOURS, made=counts.made, acked=counts.acked, evicted=counts.evicted,
         spooled=counts.ready, lost=counts.made - counts.acked - counts.evicted - counts.ready,
         cap=CAP, largest_file=largest, drain_s=seconds, rss_growth_mb=grown / 2**20)  # fmt: skip
    assert counts.made == counts.acked + counts.evicted == HOURS * per_hour
    assert set(arrived) == kept
    assert len(arrived) == len(kept) == counts.acked
    assert late(arrived) == 0, "oldest first"
    assert size <= RATE * (seconds + 2), "no faster than it was told to"
    assert largest <= CAP + (6 << 20), "the frames, their index, and SQLite's log of 1,000 pages"
    uplink.close()
    cloud.close()


def late(arrived: list[int]) -> int:
    """Return how many frames came after one that was made later."""
    return sum(seq < max(arrived[:place]) for place, seq in enumerate(arrived) if place)


class Draining:
    """Starts an uplink, and lets its clock go on with the real one."""

    def __init__(self, uplink: Uplink, clock: FakeClock) -> None:
        self._uplink = uplink
        self._clock = clock
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick)

    def __enter__(self) -> None:
        self._uplink.start()
        self._ticker.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()

    def _tick(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.01):
            now = time.monotonic()
            self._clock.advance(now - last)
            last = now


@forms("seconds", fast=3, full=120)
def test_f09_detection_is_as_fast_without_a_cloud(
    seconds: int, tmp_path: Path, new_site: Callable[..., Site], tell: Tell
) -> None:
    """One agent, first with a cloud that takes every frame, then without."""
    moving_clip(tmp_path / "clip.mp4", frames=50, width=480, height=320)
    site = new_site(tmp_path)
    site.install_student()
    site.settings["camera"][0]["loop"] = True
    site.settings["selector"] = {"policy": "cloud-only"}
    site.settings["spool"] = {"max_bytes": CAP}
    with closing(site.cloud()) as cloud:
        site.start()
        cloud.receive(HardFrame, within_s=60)
        agent = Scrape.of_agent(site.folder / "agent.log")
        fps_with = fastest(agent, seconds, 0.9 * FPS, cloud)
    wait_until(lambda: agent.sum("frames_evicted_total") > 0, 120)
    process = psutil.Process(site.processes[-1].pid)
    before = process.memory_info().rss
    fps_without = fastest(agent, seconds, 0.98 * fps_with)
    tell("F09", fps_with=fps_with, fps_without=fps_without, windows_of_s=seconds,
         rss_growth_mb=(process.memory_info().rss - before) / 2**20)  # fmt: skip
    assert fps_with >= 0.9 * FPS
    assert fps_without >= 0.98 * fps_with
    assert agent.sum("spool_bytes") <= CAP
    assert agent.sum("connected") == 0


def fastest(agent: Scrape, seconds: int, enough: float, cloud: CloudEnd | None = None) -> float:
    """Return the frames inferred a second, as of the best of 12 windows, or the first that is `enough`.

    Other work on the machine only ever takes frames away. `cloud` takes meanwhile what the agent sends.
    """
    best = 0.0
    for _ in range(12):
        before, began = agent.sum("frames_inferred_total"), time.monotonic()
        while time.monotonic() < began + seconds:
            if cloud is None:
                time.sleep(0.1)
            else:
                list(cloud.turn())
        inferred = agent.sum("frames_inferred_total") - before + 1  # one may be under way
        best = max(best, inferred / (time.monotonic() - began))
        if best >= enough:
            break
    return best


@forms("edges", fast=40, full=500)
def test_f15_edges_that_all_come_back_at_once_lose_nothing(
    edges: int, tmp_path: Path, new_fleet: Callable[..., Fleet], tell: Tell
) -> None:
    """The service is killed with frames on their way, and started again; heartbeats are as slow as real edges' are."""
    frames_each = 3
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    cloud = CloudState(tmp_path, schedule={"hold": True}, service={"endpoint": endpoint})
    fleet = new_fleet(cloud, endpoint, edges, 5.0)
    with ServiceProcess(cloud) as service:
        fleet.run(lambda: all(edge.greeted for edge in fleet.edges), 300)
        for edge in fleet.edges:
            edge.make(frames_each)
        fleet.run(lambda: fleet.acked() >= edges, 300)
        service.kill()
    acked_before = fleet.acked()
    fleet.run(lambda: not any(edge.greeted for edge in fleet.edges), 60)
    with ServiceProcess(cloud) as service:
        began = time.monotonic()
        fleet.run(lambda: all(edge.greeted for edge in fleet.edges), 300)
        waits = sorted(edge.greeted_at - began for edge in fleet.edges if edge.greeted_at is not None)
        fleet.run(fleet.drained, 600)
        drained_s = time.monotonic() - began
        assert service.terminate() == 0
    query = sa.select(frames.c.camera, frames.c.seq)
    with cloud.index.read() as connection:
        stored = [tuple(row) for row in connection.execute(query)]
    acked = {(edge.camera, seq) for edge in fleet.edges for seq in edge.acked}
    tell("F15", edges=edges, made=edges * frames_each, acked=fleet.acked(), evicted=0, spooled=0,
         lost=len(acked - set(stored)), twice=len(stored) - len(set(stored)), acked_before_the_kill=acked_before,
         welcomed_p99_s=waits[int(0.99 * len(waits))], welcomed_first_s=waits[0], drained_s=drained_s)  # fmt: skip
    assert fleet.acked() == len(acked) == edges * frames_each
    assert sorted(acked) == sorted(stored), "none lost, none twice"
    assert not any(edge.refused or edge.given_up for edge in fleet.edges)
    cloud.close()


@contextmanager
def busy_disk(path: Path, for_s: float, every_s: float) -> Iterator[None]:
    """Hold the index's write lock most of the time: every commit waits, as on a disk that is slow to sync."""
    over = threading.Event()

    def work() -> None:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
            while not over.wait(every_s - for_s):
                db.execute("BEGIN IMMEDIATE")
                over.wait(for_s)
                db.execute("ROLLBACK")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@forms("seconds", fast=3, full=300)
def test_f16_a_slow_disk_reaches_the_edges_as_smaller_windows(
    seconds: int, tmp_path: Path, new_fleet: Callable[..., Fleet], tell: Tell
) -> None:
    """8 edges with 200 kB frames: at most a window of each is under way, so the cloud's memory stays bounded."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    service = {"endpoint": endpoint, "window": 8, "queue_high": 100_000}
    cloud = CloudState(tmp_path, schedule={"hold": True}, service=service)
    fleet = new_fleet(cloud, endpoint, 8)
    jpeg = b"\xff\xfe" + bytes(200_000)
    with ServiceProcess(cloud) as process:
        fleet.run(lambda: all(edge.greeted for edge in fleet.edges), 60)
        before = psutil.Process(process.process.pid).memory_info().rss
        most = before
        with busy_disk(cloud.data_dir / "index.sqlite", for_s=1.0, every_s=1.05):
            until = time.monotonic() + seconds
            while time.monotonic() < until or not all(edge.acked and edge.window <= 4 for edge in fleet.edges):
                for edge in fleet.edges:
                    if edge.left < 8:
                        edge.make(4, padding=jpeg)
                fleet.run_for(0.25)
                most = max(most, psutil.Process(process.process.pid).memory_info().rss)
                assert time.monotonic() < until + 60, "the windows stay as they are"
        slow, windows = fleet.acked(), [edge.window for edge in fleet.edges]
        fleet.run(fleet.drained, 120)
        assert process.terminate() == 0
    made = sum(edge.made for edge in fleet.edges)
    tell("F16", seconds=seconds, made=made, acked=fleet.acked(), evicted=0, spooled=0, acked_while_slow=slow,
         rss_growth_mb=(most - before) >> 20, windows=windows)  # fmt: skip
    assert fleet.acked() == made
    assert most - before <= 64 << 20, "8 windows of 8 frames of 200 kB, twice, and some slack"
    cloud.close()
