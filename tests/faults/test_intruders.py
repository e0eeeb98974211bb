"""A02, A04 and A05: strangers who wear the port down, and an enrolled edge that goes bad."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import psutil
import pytest

from culling.cloud.store.fsck import fsck
from culling.common.wire.messages import (
    Ack,
    Escalate,
    FromEdge,
    Heartbeat,
    Hello,
    LivePicture,
    ModelRequest,
    Nack,
    Refused,
    SwapReport,
    Welcome,
    pack,
)
from culling.common.wire.versions import PROTOCOL_VERSION
from support import flood
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, camera_state, hard_frame, hello
from support.fleet import Fleet
from support.forms import Tell, forms
from support.scrape import Scrape
from support.site import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.fault
HANDSHAKE_S = 10.0
FEW = 1500


# A02


@contextmanager
def strangers(port: int, half_open: int, dripping: int, per_second: int) -> Iterator[None]:
    command = [sys.executable, str(flood.__file__), *map(str, (port, half_open, dripping, per_second))]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + HANDSHAKE_S  # by then the first are let go: more never stand at a time
            wait_until(lambda: connections(port) >= half_open or time.monotonic() > until)
            assert process.poll() is None
            yield
        finally:
            process.kill()


def connections(port: int) -> int:
    """Return how many connections to `port` stand."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(wanted) and line.split()[3] == "01" for line in lines)


@pytest.fixture
def usual_files() -> Iterator[None]:
    """Start with 1,024 open files allowed, as most systems do: a service that wants more has to ask for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("usual_files")
@forms("half_open", fast=FEW, full=10_000)
def test_a02_a_flood_of_strangers_costs_honest_edges_little(
    half_open: int, tmp_path: Path, new_fleet: Callable[..., Fleet], tell: Tell
) -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    cloud = CloudState(tmp_path, schedule={"hold": True}, service={"endpoint": endpoint})
    fleet = new_fleet(cloud, endpoint, 2)
    turns, window_s = (2, 1.0) if half_open == FEW else (10, 3.0)
    with ServiceProcess(cloud) as service:
        process = psutil.Process(service.process.pid)
        fleet.run(lambda: all(edge.greeted for edge in fleet.edges), 60)
        throughput(fleet, window_s)  # the first frames make folders
        before = process.memory_info().rss
        quiet = [throughput(fleet, window_s) for _ in range(turns)]
        with strangers(port, half_open, half_open // 10, 50):
            flooded = [throughput(fleet, window_s) for _ in range(turns)]
            most, standing = process.memory_info().rss, connections(port)
        quiet += [throughput(fleet, window_s) for _ in range(turns)]
        fleet.run(lambda: not any(edge.left for edge in fleet.edges), 120)  # late perhaps, but every frame arrives
        health = Scrape((cloud.data_dir / "metrics").read_text().strip())
        wait_until(lambda: health.sum("handshake_failures_total") > 0)
        failures = health.sum("handshake_failures_total")
        assert service.terminate() == 0
    kept = statistics.median(flooded) / statistics.median(quiet)
    tell("A02", half_open=half_open, standing=standing, dripping=half_open // 10, quiet_per_s=statistics.median(quiet),
         flooded_per_s=statistics.median(flooded), kept=kept, asserted=half_open > FEW,
         refused=failures, rss_growth_mb=(most - before) >> 20)  # fmt: skip
    assert standing >= FEW // 2, "the flood was one: what is let go after its ten seconds comes again"
    if half_open > FEW:  # the fast form is too short to tell a flood from whatever else the machine does
        assert kept >= 0.9
    assert most - before <= 64 << 20, "2^62 bytes were declared often, and never allocated"
    cloud.close()


def throughput(fleet: Fleet, seconds: float) -> float:
    """Return how many frames a second are acked while there are always some to send."""
    for edge in fleet.edges:
        edge.make(max(0, int(200 * seconds) - edge.left))
    began, before = time.monotonic(), fleet.acked()
    fleet.run_for(seconds)
    return (fleet.acked() - before) / (time.monotonic() - began)


# A04 and A05


@dataclass
class House:
    """A service with two enrolled edges: `good` has the camera `gate`, `bad` has `yard`."""

    cloud: CloudState
    service: ServiceProcess
    good: Edge
    bad: Edge

    def metrics(self) -> Scrape:
        return Scrape((self.cloud.data_dir / "metrics").read_text().strip())

    def files(self) -> set[Path]:
        return {path for path in self.cloud.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    cloud = CloudState(tmp_path_factory.mktemp("house"), schedule={"hold": True})
    good, bad = cloud.enroll(CAMERA, edge="good"), cloud.enroll("yard", edge="bad")
    for camera in (CAMERA, "yard"):
        cloud.publisher.publish(camera, cloud.artefact(tag=camera), "base")
    with ServiceProcess(cloud) as service:
        edges = [Edge(service.endpoint, cloud.keys.curve_public, secret) for secret in (good, bad)]
        yield House(cloud, service, *edges)
        for edge in edges:
            edge.close()
        assert service.terminate() == 0
    assert fsck(cloud.settings).findings == ()
    cloud.close()


def test_a04_what_an_edge_says_for_anothers_camera_is_refused_and_leaves_no_trace(house: House) -> None:
    frame, jpeg = hard_frame(1)
    assert house.good.ask(frame, Ack, payload=jpeg).seq == 1
    before = house.cloud.frames.counts()
    state = house.cloud.roster.rows()

    nack = house.bad.ask(frame, Ack, Nack, payload=jpeg)
    assert (type(nack), nack.reason, nack.retry) == (Nack, "not-your-camera", False), "the very bytes, replayed"
    for message in (
        ModelRequest(CAMERA, f"{CAMERA}-1", 0, 10),
        SwapReport(CAMERA, f"{CAMERA}-1", None, "rolled-back", "", 0.0, 1.0),
    ):
        assert house.bad.ask(message, Refused).reason.startswith("not-your-camera")
    house.bad.ask(hello(camera_state(CAMERA, seen=666), camera_state("yard", "yard-1")), Welcome)
    house.bad.send(Heartbeat("boot-1", [camera_state(CAMERA, seen=666)]))

    own, picture = hard_frame(1, "yard")
    assert house.bad.ask(own, Ack, payload=picture).seq == 1, "its own boot and number, which another used too"
    reused, other = hard_frame(1, "yard", jpeg=jpeg + b"\0")
    nack = house.bad.ask(reused, Nack, payload=other)
    assert (nack.reason, nack.retry) == ("seq-reused", False)
    assert house.cloud.frames.counts()[CAMERA] == before[CAMERA]
    (row,) = [row for row in house.cloud.roster.rows() if row.name == CAMERA]
    assert row.state is None or row.state.seen != 666
    assert [known.name for known in state] == [CAMERA, "yard"]
    assert house.cloud.registry.live_ids() == {CAMERA: "gate-1", "yard": "yard-1"}
    metrics = house.metrics()
    assert metrics.sum("frames_refused_total", camera="unknown", reason="not-your-camera") == 1
    assert metrics.sum("messages_refused_total", reason="not-your-camera") >= 4
    assert house.good.ask(frame, Ack, payload=jpeg).seq == 1, "the other never noticed"


def test_a04_an_edge_that_acks_itself_is_not_understood(house: House) -> None:
    house.bad.send_parts(pack(Ack("boot-1", 1, 32)))
    assert house.bad.receive(Refused)[0].reason.startswith("unknown-type")


NAMES = ["../../x", "/etc/x", "a/b", "..", "", "x\0", "x" * 4096, "\u202eexe.jpg", "a\n", "%2e%2e", "C:\\x", "gate "]


def test_a05_no_string_of_any_message_names_a_file(house: House) -> None:
    before, refused = house.files(), 0
    frame, jpeg = hard_frame(5, "yard")
    messages: list[tuple[Any, list[bytes]]] = [
        (frame, [jpeg]),
        (Hello("culling", "boot-1", [camera_state("yard")]), []),
        (Heartbeat("boot-1", [camera_state("yard")]), []),
        (ModelRequest("yard", "yard-1", 0, 10), []),
        (SwapReport("yard", "yard-1", "yard-0", "live", "", 0.0, 1.0), []),
        (LivePicture("yard", 1.0, "yard-1", 64, 48, frame.detections), [jpeg]),
        (Escalate("yard", "boot-1", 1, 1.0, 2.0, "yard-1", 64, 48), [jpeg]),
    ]
    assert {type(message) for message, _ in messages} == set(get_args(FromEdge))
    for message, payload in messages:
        told = msgspec.to_builtins(message, builtin_types=(bytes,))
        for path in strings(told):
            for name in NAMES:
                if free_text(message, path) and printable(name):
                    continue
                spoiled = msgspec.msgpack.encode(replaced(told, path, name))
                house.bad.send_parts([bytes([PROTOCOL_VERSION]) + spoiled, *payload])
                answer = house.bad.receive(Refused, Nack, Welcome, Ack)[0]
                assert isinstance(answer, Refused), (type(message).__name__, path, name)
                refused += 1
    assert refused > 150
    new = {path for path in house.files() - before if "sqlite" not in path.name}
    assert new == set(), "no file came of it, inside of the store or out"
    assert isinstance(house.bad.ask(hello(camera_state("yard", "yard-1")), Welcome), Welcome)


def strings(told: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every string in a message, but that of its type."""
    items = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in items:
        if isinstance(value, str) and key != "type":
            yield (*path, key)
        yield from strings(value, (*path, key))


def replaced(told: Any, path: tuple[Any, ...], name: str) -> Any:
    """Return `told` with `name` at `path`."""
    key, *rest = path
    copy = dict(told) if isinstance(told, dict) else list(told)
    copy[key] = replaced(told[key], tuple(rest), name) if rest else name
    return copy


def free_text(message: Any, path: tuple[Any, ...]) -> bool:
    """Whether people write there what they like; it is shown, and never names anything."""
    return (type(message), path[-1]) in ((Hello, "software"), (SwapReport, "reason"))


def printable(name: str) -> bool:
    return len(name) <= 200 and all(" " <= char <= "~" for char in name)
