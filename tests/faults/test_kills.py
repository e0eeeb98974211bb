"""F10 and F11: `kill -9` of either side, at random points. Nothing acked is lost, nothing is stored twice."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from culling.cloud.store.index import frames
from culling.cloud.store.picture import unseal
from culling.common.cli import main
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.fleet import Fleet
from support.forms import Tell, forms
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

START_S = 10.0


def stored(cloud: CloudState) -> list[tuple[str, str, int, int]]:
    """Return camera, boot, number and place in the stream of every frame that the cloud has."""
    query = sa.select(frames.c.camera, frames.c.boot, frames.c.seq, frames.c.frame).where(frames.c.state == "stored")
    with cloud.index.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def twice(cloud: CloudState) -> int:
    """Return how many frames the cloud has more than once, whatever number they came under."""
    places = Counter((camera, boot, frame) for camera, boot, _, frame in stored(cloud))
    return sum(times - 1 for times in places.values())


def checked(cloud: CloudState) -> None:
    """Have `culling cloud fsck` look at what is there."""
    assert main(["cloud", "fsck", "--config", str(cloud.toml)]) == 0


class Killed:
    """A site whose agent is killed, with what its spool then holds."""

    def __init__(self, site: Site, cloud: CloudState) -> None:
        moving_clip(site.folder / "clip.mp4", 60)
        self.cloud = cloud
        self.site = site
        self.site.install_student()
        self.site.settings["cloud"] |= {"server_key": cloud.keys.curve_public, "secret_key": cloud.enroll(CAMERA)}
        cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
        self.site.settings["camera"][0] |= {"pace": "max", "loop": True}
        self.site.settings["selector"] = {"window_s": 1.0, "frames_per_window": 12, "spacing_s": 0.0}

    def live_and_die(self, chance: random.Random) -> float | None:
        """Start the agent and kill it somewhere; return how long it took to start, None when it was not let."""
        before, began = self.starts(), time.monotonic()
        agent = self.site.start()
        started: float | None = None
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.3, 2.0))
        else:
            wait_until(lambda: self.starts() > before)
            started = time.monotonic() - began
            used = psutil.Process(agent.pid).cpu_times()
            assert used.user + used.system <= START_S, "of CPU: what else the machine does counts for nothing"
            time.sleep(chance.uniform(0, 1.5))
        agent.kill()
        agent.wait(10)
        return started

    def starts(self) -> int:
        log = self.site.folder / "agent.log"
        return log.read_text().count("agent_started") if log.exists() else 0

    def finish(self) -> None:
        """Play the clip once more and let everything leave."""
        self.site.settings["camera"][0]["loop"] = False
        self.site.settings["agent"] |= {"exit_when_done": True, "drain_s": 60.0}
        assert self.site.start().wait(90) == 0, self.site.log()[-3000:]

    def spool(self) -> tuple[Counter[str], set[int]]:
        """Return the spool's counters, and the numbers of the frames that wait in it."""
        path = self.site.folder / "state" / "spool.sqlite"
        if not path.exists():
            return Counter(), set()
        with closing(sqlite3.connect(path)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'counters'").fetchone():
                return Counter(), set()
            waiting = {seq for (seq,) in db.execute("SELECT seq FROM frames")}
            counters = Counter[str]()
            for camera, name, value in db.execute("SELECT camera, name, value FROM counters"):
                if camera == CAMERA:
                    counters[name.partition(".")[0]] += value
        return counters, waiting

    def lost(self) -> int:
        """Return how many frames were acked that the cloud does not have; every frame made is accounted for."""
        counters, waiting = self.spool()
        assert counters["made"] == counters["acked"] + counters["evicted"] + len(waiting)
        gone = {seq for _, _, seq, _ in stored(self.cloud)} - waiting
        return counters["acked"] - len(gone)


@pytest.mark.fault
@forms("kills", fast=3, full=200)
def test_f10_kill_9_of_the_edge_loses_no_frame_and_stores_none_twice(
    kills: int, tmp_path: Path, new_site: Callable[..., Site], tell: Tell
) -> None:
    chance = random.Random(10)
    cloud = CloudState(tmp_path, schedule={"hold": True})
    (tmp_path / "edge").mkdir()
    with ServiceProcess(cloud) as service:
        killed = Killed(new_site(tmp_path / "edge", service.endpoint), cloud)
        starts: list[float] = []
        for _ in range(kills):
            if (took := killed.live_and_die(chance)) is not None:
                starts.append(took)
            assert killed.lost() == 0
        killed.finish()
        assert service.terminate() == 0
    counters, waiting = killed.spool()
    lost, double = killed.lost(), twice(cloud)
    took = statistics.median(starts)
    tell("F10", kills=kills, made=counters["made"], acked=counters["acked"], evicted=counters["evicted"],
         spooled=len(waiting), lost=lost, twice=double, start_s=took, slowest_start_s=max(starts))  # fmt: skip
    assert (lost, double) == (0, 0)
    assert counters["acked"] == len(stored(cloud)) > kills
    checked(cloud)
    cloud.close()


@pytest.mark.fault
@forms("kills", fast=3, full=200)
def test_f11_kill_9_of_the_cloud_loses_no_acked_frame_and_stores_none_twice(
    kills: int, tmp_path: Path, new_fleet: Callable[..., Fleet], tell: Tell
) -> None:
    chance = random.Random(11)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    cloud = CloudState(tmp_path, schedule={"hold": True}, service={"endpoint": endpoint})
    fleet = new_fleet(cloud, endpoint, 4)
    lost = 0
    for _ in range(kills):
        with ServiceProcess(cloud) as service:
            for edge in fleet.edges:
                edge.make(chance.randrange(10, 40) if edge.left < 40 else 0)
            fleet.run_for(chance.uniform(0.1, 3.0), enough=fleet.acked() + chance.randrange(60))
            service.kill()
        checked(cloud)
        lost += missing(cloud, fleet)
        assert lost == 0
    with ServiceProcess(cloud) as service:
        fleet.run(fleet.drained, within_s=300)
        assert service.terminate() == 0
    made, acked = sum(edge.made for edge in fleet.edges), fleet.acked()
    left = sum(edge.left for edge in fleet.edges)
    tell("F11", kills=kills, made=made, acked=acked, evicted=0, spooled=left, lost=lost, twice=twice(cloud))
    assert made == acked + left
    assert (missing(cloud, fleet), twice(cloud)) == (0, 0)
    assert len(stored(cloud)) == made
    checked(cloud)
    cloud.close()


def missing(cloud: CloudState, fleet: Fleet) -> int:
    """Return how many acked frames are not there, or not whole."""
    query = sa.select(frames.c.id, frames.c.camera, frames.c.seq, frames.c.sha256).where(frames.c.state == "stored")
    with cloud.index.read() as connection:
        rows = {(camera, seq): (name, sha256) for name, camera, seq, sha256 in connection.execute(query)}
    absent = 0
    for edge in fleet.edges:
        for seq in edge.acked:
            name, sha256 = rows.get((edge.camera, seq), ("", ""))
            path = cloud.frames.path(edge.camera, name)
            absent += not path.exists() or hashlib.sha256(unseal(path.read_bytes())[0]).hexdigest() != sha256
    return absent
