"""Roles in processes of their own, on PostgreSQL and a bucket: three ingests, two controls, two pages, a balancer."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tomli_w

from culling.cloud.store.index import frames
from culling.cloud.store.keys import page_token_of
from culling.common.cli import main
from culling.common.wire.messages import ModelChunk, ModelRequest, Welcome
from support.balancer import Balancer
from support.cloud import CloudState, Edge, ServiceProcess, camera_state, hello
from support.fleet import Fleet
from support.postgres import Postgres
from support.scrape import Scrape
from support.waiting import wait_until

FAILOVER_S = 15.0
EDGES = 4


class Home:
    """A data folder of one process of `state`, which has its keys from there."""

    def __init__(self, state: CloudState, name: str) -> None:
        self.folder = state.folder / name
        self.data_dir = self.folder / "data"
        self.toml = self.folder / "cloud.toml"
        self.folder.mkdir()
        keys = {f"{kind}_key_file": str(state.data_dir / "keys" / f"{kind}.secret") for kind in ("curve", "signing")}
        sections = {**state.sections, "service": {**state.sections["service"], "data_dir": str(self.data_dir), **keys}}
        sections["page"] = {**state.sections["page"], "token_file": str(state.data_dir / "page.token")}
        self.toml.write_text(tomli_w.dumps(sections))


class Cluster:
    """All processes on the index and bucket of `state`; its own data folder has nothing but the keys."""

    def __init__(self, state: CloudState) -> None:
        self.state = state
        self.token = page_token_of(state.settings)
        names = ("in-1", "in-2", "in-3", "con-1", "con-2", "page-1", "page-2")
        self.homes = {name: Home(state, name) for name in names}
        roles = {"in": "ingest", "con": "control", "page": "page"}
        with ThreadPoolExecutor() as pool:  # to start takes seconds of waiting
            began = pool.map(lambda name: ServiceProcess(self.homes[name], roles[name.partition("-")[0]]), names)
            self.processes = dict(zip(names, began, strict=True))
        ends = [self[name].endpoint.rpartition(":")[2] for name in ("in-1", "in-2", "in-3")]
        self.balancer = Balancer(("127.0.0.1", int(port)) for port in ends)

    def __getitem__(self, name: str) -> ServiceProcess:
        return self.processes[name]

    def ready(self, name: str) -> str:
        """Return what a process says of itself."""
        try:
            return Scrape(self[name].address("metrics")).text("/readyz").strip()
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()

    def elected(self) -> list[str]:
        """Return the processes that say that they are control."""
        controls = [name for name in ("con-1", "con-2") if self[name].process.poll() is None]
        return [name for name in controls if Scrape(self[name].address("metrics")).sum("control_elected") == 1]

    def ask(self, page: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return a page's answer; with a body it is asked to act."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-Culling-Token": self.token} if body is not None else {}
        request = urllib.request.Request(f"{self[page].address('page')}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def rows(self, page: str) -> dict[str, Any]:
        return {row["camera"]: row for row in self.ask(page, "/api/fleet")["cameras"]}

    def close(self) -> None:
        self.balancer.close()
        for process in self.processes.values():
            if process.process.poll() is None:
                process.kill()


@pytest.fixture
def state(tmp_path: Path, postgres: Postgres, bucket: str) -> Iterator[CloudState]:
    url = postgres.take()
    store = {"url": url, "objects": bucket}
    found = CloudState(tmp_path, store=store, schedule={"hold": True}, page={"port": 0, "actions": True})
    yield found
    found.close()
    postgres.give_back(url)


@pytest.fixture
def cluster(state: CloudState) -> Iterator[Cluster]:
    found = Cluster(state)
    yield found
    found.close()


@pytest.fixture
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    found = Fleet(cluster.state, cluster.balancer.endpoint, EDGES)
    yield found
    found.close()


def stored(state: CloudState) -> Counter[tuple[str, int]]:
    query = sa.select(frames.c.camera, frames.c.seq).where(frames.c.state == "stored")
    with state.index.read() as connection:
        return Counter((camera, seq) for camera, seq in connection.execute(query))


def within(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for `condition`; return how long it took."""
    began = time.monotonic()
    wait_until(condition, seconds)
    return time.monotonic() - began


@pytest.mark.fault
@pytest.mark.timeout(400)
def test_three_ingests_two_controls_and_two_pages_are_one_service(
    cluster: Cluster, fleet: Fleet, postgres: Postgres
) -> None:
    state = cluster.state

    # One control is elected, the other says that it stands by; every role answers a scrape.
    (active,) = cluster.elected()
    standby = "con-1" if active == "con-2" else "con-2"
    assert cluster.ready(active) == "rounds run"
    assert cluster.ready(standby) == "control is standby: another one is elected"
    assert (cluster.ready("in-1"), cluster.ready("page-1")) == ("frames are accepted", "the page is served")

    # An ingest is killed under load: what it acked is there, and nothing is there twice.
    for edge in fleet.edges:
        edge.make(60)
    fleet.run(lambda: fleet.acked() >= 60, 60)
    cluster["in-2"].kill()
    fleet.run(fleet.drained, 120)
    there = stored(state)
    lost = [(edge.camera, seq) for edge in fleet.edges for seq in edge.acked if not there[edge.camera, seq]]
    assert (lost, max(there.values()), len(there)) == ([], 1, 60 * EDGES)

    # Both pages see every camera live, whichever ingest it speaks to.
    def all_live() -> bool:
        seen = [row["state"] for page in ("page-1", "page-2") for row in cluster.rows(page).values()]
        return seen == ["live"] * (2 * EDGES)

    fleet.run(all_live, 30)

    # A request that is entered on one page is carried out by control, and seen on the other.
    number = cluster.ask("page-1", "/api/actions", {"kind": "pause", "camera": "camera-0"})["request"]
    wait_until(lambda: cluster.ask("page-2", f"/api/requests/{number}")["done"])
    assert cluster.ask("page-2", f"/api/requests/{number}")["ok"]
    wait_until(lambda: cluster.rows("page-2")["camera-0"]["paused"])

    # The elected control is killed: the other one acts.
    cluster[active].kill()
    number = cluster.ask("page-2", "/api/actions", {"kind": "resume", "camera": "camera-0"})["request"]
    took = within(lambda: state.requests.answered(number) is not None, FAILOVER_S)
    print(f"failover after {took:.1f} s")
    assert cluster.elected() == [standby]

    # The database restarts, and forgets who was elected: it steps down, and is elected anew.
    postgres.kill()
    postgres.start()
    number = state.requests.ask("pause", "camera-0", time.time())
    within(lambda: state.requests.answered(number) is not None, FAILOVER_S)
    assert "control_deposed" in cluster[standby].log()
    assert cluster[standby].log().count("control_elected") == 2


@pytest.mark.timeout(300)
def test_an_ingest_without_model_files_serves_them_from_the_bucket(state: CloudState) -> None:
    secret = state.enroll()
    model = state.publisher.publish("gate", state.artefact(), "base")
    home = Home(state, "in-1")
    with ServiceProcess(home, "ingest") as service:
        edge = Edge(service.endpoint, state.keys.curve_public, secret)
        edge.ask(hello(camera_state(model_id="none")), Welcome)
        data = b""
        while len(data) < model.artefact.size:
            edge.send(ModelRequest("gate", model.model_id, len(data), 1 << 16))
            chunk, piece = edge.receive(ModelChunk, within_s=30)
            assert (chunk.offset, chunk.total) == (len(data), model.artefact.size)
            data += piece or b""
        assert data == state.files.read(model.artefact.sha256)
        assert not list((home.data_dir / "models").glob("*")), "no copy is left behind"
        edge.close()
        assert service.terminate() == 0


@pytest.mark.parametrize("role", ["ingest", "control"])
def test_a_role_apart_takes_the_keys_of_the_others_and_makes_none(
    role: str, state: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = state.folder / "bare"
    assert main(["cloud", "serve", "--role", role, *of(state, folder)]) == 2
    assert "key" in capsys.readouterr().err
    assert not (folder / "keys").exists()


@pytest.mark.parametrize(("objects", "named"), [(False, "store.url and store.objects"), (True, "store.url")])
def test_roles_apart_on_one_file_are_refused_with_what_to_do(
    objects: bool, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_bucket = ["--set", "store.objects=s3://bucket"] if objects else []
    done = main(["cloud", "serve", "--role", "page", "--set", f"service.data_dir={tmp_path}", *of_bucket])
    assert done == 2
    assert f"set {named}" in capsys.readouterr().err


def test_roles_apart_with_pictures_in_a_folder_are_refused(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.take()
    done = main(
        ["cloud", "serve", "--role", "page", *("--set", f"service.data_dir={tmp_path}"), "--set", f"store.url={url}"]
    )
    assert done == 2
    assert "pictures are in the data folder: set store.objects" in capsys.readouterr().err
    postgres.give_back(url)


def of(state: CloudState, folder: Path) -> list[str]:
    """Return the options of a command on the index and bucket of `state`, with a data folder of its own."""
    store = state.sections["store"]
    told = {"service.data_dir": folder, "store.url": store["url"], "store.objects": store["objects"]}
    return [part for name, value in told.items() for part in ("--set", f"{name}={value}")]
