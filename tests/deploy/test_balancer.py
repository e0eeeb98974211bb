"""The balancer's settings in a real HAProxy: the encrypted link passes, and an edge lands on another ingest."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.common.process.health import HealthServer
from culling.common.wire.messages import Hello, Welcome, pack, unpack
from culling.common.wire.transport import CloudSocket, new_keypair, public_key
from support.cloud import Edge, hello
from support.haproxy import CONFIG, HAPROXY, Haproxy
from support.images import ROOT, image
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed: apt-get install haproxy")


class Ingest:
    """What an edge meets behind the balancer: a socket with the service's key, and its health."""

    def __init__(self, secret: str, edge: str) -> None:
        self.ready = True
        self.socket = CloudSocket("tcp://127.0.0.1:0", secret, lambda key: key == edge)
        self.health = HealthServer("127.0.0.1", 0, CollectorRegistry(), lambda: (self.ready, "told so"))
        self.greeted = 0

    def turn(self) -> None:
        """Welcome whoever says hello."""
        if (received := self.socket.poll(0.05)) is None:
            return
        key, parts = received
        if isinstance(unpack(parts, "edge")[0], Hello):
            self.greeted += 1
            self.socket.send(key, pack(Welcome("test", window=8)))

    def close(self) -> None:
        self.socket.close()
        self.health.close()


@pytest.fixture
def keys() -> tuple[str, str]:
    """The secret keys of the service and of an edge."""
    return new_keypair()[1], new_keypair()[1]


@pytest.fixture
def ingests(keys: tuple[str, str]) -> Iterator[list[Ingest]]:
    both = [Ingest(keys[0], public_key(keys[1])) for _ in range(2)]
    yield both
    for one in both:
        one.close()


@pytest.fixture
def balancer(ingests: list[Ingest], tmp_path: Path) -> Iterator[Haproxy]:
    found = Haproxy(tmp_path, [(one.socket.endpoint.removeprefix("tcp://"), one.health.port) for one in ingests])
    yield found
    found.close()


def test_haproxy_takes_the_settings_as_they_are() -> None:
    file = ROOT / "deploy/haproxy/haproxy.cfg"
    done = subprocess.run([str(HAPROXY), "-c", "-f", file], capture_output=True, text=True, check=False)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr


def test_its_ports_are_those_of_the_services() -> None:
    named = {int(port) for port in re.findall(r"(?:bind |ingest|page|port )[:\s]*(\d{4})\b", CONFIG)}
    assert named == image("cloud").ports


def test_an_edge_lands_on_another_ingest_when_its_own_is_no_longer_ready(
    ingests: list[Ingest], balancer: Haproxy, keys: tuple[str, str]
) -> None:
    edge = Edge(balancer.endpoint, public_key(keys[0]), keys[1])

    def welcomed() -> bool:
        edge.socket.send(pack(hello()))
        for one in ingests:
            one.turn()
        return edge.socket.poll(0.05) is not None

    try:
        wait_until(welcomed)
        [first] = [one for one in ingests if one.greeted]
        [other] = [one for one in ingests if not one.greeted]

        first.ready = False

        wait_until(lambda: welcomed() and other.greeted > 0)
    finally:
        edge.close()
