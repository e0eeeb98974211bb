"""Real ZeroMQ with real CURVE over TCP on this machine: who gets in, who is told, and what breaks nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import zmq
from structlog.testing import capture_logs

from culling.common.errors import ProtocolError, SettingsError, StorageError
from culling.common.wire import transport
from culling.common.wire.messages import MAX_JPEG, MAX_OFFER
from culling.common.wire.transport import CloudSocket, EdgeSocket, new_keypair, public_key

DEADLINE_S = 20.0
ANYWHERE = "tcp://127.0.0.1:0"


@dataclass
class Link:
    """One cloud, its allow-list, and as many edges as a test opens; `pump` polls all of them."""

    stack: ExitStack
    allowed: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    keys: tuple[str, str] = field(default_factory=new_keypair)
    received: list[tuple[str, list[bytes]]] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    endpoint: str = ANYWHERE

    def start(self) -> CloudSocket:
        self.cloud = self.stack.enter_context(
            contextlib.closing(
                CloudSocket(
                    self.endpoint, self.keys[1], self.allowed.__contains__, on_event=lambda e: self.events.update([e])
                )
            )
        )
        self.endpoint = self.cloud.endpoint
        return self.cloud

    def edge(
        self,
        keys: tuple[str, str] | None = None,
        *,
        enrolled: bool = True,
        server_key: str = "",
        endpoint: str = "",
        heartbeat_s: float = 30.0,
    ) -> Edge:
        public, secret = keys or new_keypair()
        if enrolled:
            self.allowed.add(public)
        return Edge(self, public, secret, server_key or self.keys[0], endpoint or self.endpoint, heartbeat_s)

    def raw(self, routing_id: bytes) -> tuple[str, zmq.Socket[bytes]]:
        """Return a bare libzmq client that is enrolled: an attacker need not use our class."""
        context = self.stack.enter_context(zmq.Context())
        client = self.stack.enter_context(context.socket(zmq.DEALER))
        public, secret = new_keypair()
        self.allowed.add(public)
        client.linger = 0
        client.routing_id = routing_id
        client.curve_serverkey = self.keys[0].encode()
        client.curve_publickey, client.curve_secretkey = public.encode(), secret.encode()
        client.connect(self.endpoint)
        return public, client

    def pump(self, condition: Callable[[], object]) -> None:
        """Poll every socket until `condition` holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            if (message := self.cloud.poll(0.01)) is not None:
                self.received.append(message)
            for edge in self.edges:
                if (parts := edge.socket.poll(0)) is not None:
                    edge.received.append(parts)


class Edge:
    """An EdgeSocket with what it received and what happened to it."""

    def __init__(
        self, link: Link, public: str, secret: str, server_key: str, endpoint: str, heartbeat_s: float
    ) -> None:
        self.public = public
        self.keys = (public, secret)
        self.received: list[list[bytes]] = []
        self.events: list[str] = []
        self.socket = EdgeSocket(
            endpoint, server_key, secret, on_event=self.events.append, heartbeat_s=heartbeat_s, reconnect_s=0.02
        )
        link.stack.callback(self.socket.close)
        link.edges.append(self)


@pytest.fixture
def link() -> Iterator[Link]:
    with ExitStack() as stack:
        made = Link(stack)
        made.start()
        yield made


def test_message_goes_there_and_back(link: Link) -> None:
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    assert edge.socket.send([b"header", b"jpeg"])
    link.pump(lambda: link.received)
    assert link.received == [(edge.public, [b"header", b"jpeg"])]
    assert link.cloud.send(edge.public, [b"ack"])
    link.pump(lambda: edge.received)
    assert edge.received == [[b"ack"]]
    assert edge.events == ["connected"]
    assert edge.socket.failure is None
    assert link.events == {"connected": 1}


def test_port_zero_becomes_the_real_one(link: Link) -> None:
    host, port = link.cloud.endpoint.rsplit(":", 1)
    assert host == "tcp://127.0.0.1"
    assert int(port) > 0


def test_unknown_key_is_refused_counted_and_named_in_the_log(link: Link) -> None:
    with capture_logs() as logs:
        stranger = link.edge(enrolled=False)
        link.pump(lambda: stranger.socket.failure)
        link.pump(lambda: link.events["refused"])
    assert stranger.socket.failure == "refused"
    assert not stranger.socket.connected
    assert not stranger.socket.send([b"let me in"])
    assert link.received == []
    assert {"event": "edge_refused", "key": stranger.public, "log_level": "warning"} in logs
    assert stranger.keys[1] not in str(logs)


def test_edge_enrolled_later_gets_in_by_itself(link: Link) -> None:
    late = link.edge(enrolled=False)
    link.pump(lambda: late.socket.failure)
    link.allowed.add(late.public)
    link.pump(lambda: late.socket.connected)
    assert late.socket.failure is None


def test_flood_of_strangers_does_not_flood_the_log(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "NAMED_STRANGERS", 3)
    with capture_logs() as logs:
        strangers = [link.edge(enrolled=False) for _ in range(5)]
        link.pump(lambda: all(stranger.socket.failure for stranger in strangers))
        link.pump(lambda: link.events["refused"] >= 10)
    # The start-up self-test's own key is the first of the three.
    assert len([entry for entry in logs if entry["event"] == "edge_refused"]) == 2


def test_wrong_server_key_is_visible_at_the_edge(link: Link) -> None:
    misled = link.edge(server_key=new_keypair()[0])
    link.pump(lambda: misled.socket.failure)
    assert misled.socket.failure == "handshake-failed"
    assert misled.events[0] == "handshake-failed"
    assert not misled.socket.send([b"secret"])
    link.pump(lambda: link.events["handshake-failed"])
    assert link.received == []


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
def test_client_without_curve_is_refused(link: Link, mechanism: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        if mechanism == "PLAIN":
            client.plain_username, client.plain_password = b"admin", b"admin"
        client.connect(link.endpoint)
        client.send(b"hello")
        link.pump(lambda: link.events["handshake-failed"])
    assert link.received == []
    assert link.events["connected"] == 0


def test_garbage_on_the_port_hurts_nobody(link: Link) -> None:
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    host, port = link.endpoint.removeprefix("tcp://").split(":")
    chance = random.Random(1)
    for _ in range(20):
        with socket.create_connection((host, int(port))) as intruder, contextlib.suppress(ConnectionError):
            intruder.sendall(chance.randbytes(500))
    assert edge.socket.send([b"still here"])
    link.pump(lambda: link.received)
    assert link.received == [(edge.public, [b"still here"])]


def test_identity_is_the_proven_key_whatever_the_peer_claims(link: Link) -> None:
    victim = link.edge()
    proven, liar = link.raw(routing_id=victim.public.encode())
    liar.send_multipart([victim.public.encode(), b"I am the victim"])
    link.pump(lambda: link.received)
    assert [key for key, _ in link.received] == [proven]
    assert not link.cloud.send(victim.public, [b"for the victim only"])


def test_peer_that_claims_the_routing_id_of_another_takes_nothing(link: Link) -> None:
    victim = link.edge()
    link.pump(lambda: victim.socket.connected)
    victim.socket.send([b"first"])
    link.pump(lambda: link.received)
    _, squatter = link.raw(routing_id=link.cloud._routes[victim.public])
    squatter.send(b"mine now")
    link.pump(lambda: link.events["connected"] == 2)
    assert link.cloud.send(victim.public, [b"for the victim only"])
    link.pump(lambda: victim.received)
    victim.socket.send([b"second"])
    link.pump(lambda: len(link.received) == 2)
    assert [key for key, _ in link.received] == [victim.public] * 2
    assert squatter.poll(0) == 0


def test_edge_started_anew_gets_the_answers(link: Link) -> None:
    old = link.edge()
    link.pump(lambda: old.socket.connected)
    old.socket.send([b"old"])
    link.pump(lambda: link.received)
    new = link.edge(old.keys)
    link.pump(lambda: new.socket.connected)
    new.socket.send([b"new"])
    link.pump(lambda: len(link.received) == 2)
    assert link.cloud.send(old.public, [b"answer"])
    link.pump(lambda: new.received)
    assert old.received == []


def test_largest_frame_passes_and_a_larger_one_ends_the_connection(link: Link) -> None:
    edge, other = link.edge(), link.edge()
    link.pump(lambda: edge.socket.connected and other.socket.connected)
    assert edge.socket.send([b"header", bytes(MAX_JPEG)])
    link.pump(lambda: link.received)
    assert len(link.received.pop()[1][1]) == MAX_JPEG
    assert edge.socket.send([b"header", bytes(MAX_JPEG + 100)])
    link.pump(lambda: "disconnected" in edge.events)
    assert other.socket.send([b"unharmed"])
    link.pump(lambda: link.received)
    assert link.received == [(other.public, [b"unharmed"])]


def test_edge_takes_no_more_than_an_offer(link: Link) -> None:
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    edge.socket.send([b"hello"])
    link.pump(lambda: link.received)
    assert link.cloud.send(edge.public, [bytes(MAX_OFFER)])
    link.pump(lambda: edge.received)
    assert link.cloud.send(edge.public, [bytes(MAX_OFFER + 100)])
    link.pump(lambda: "disconnected" in edge.events)
    assert len(edge.received) == 1


def test_sending_to_nobody_or_to_the_departed_is_false_at_once(link: Link) -> None:
    assert not link.cloud.send(new_keypair()[0], [b"anyone?"])
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    edge.socket.send([b"hello"])
    link.pump(lambda: link.received)
    link.edges.clear()
    edge.socket.close()
    link.pump(lambda: not link.cloud.send(edge.public, [b"are you there?"]))


def test_edge_that_does_not_read_neither_blocks_the_cloud_nor_its_end(link: Link) -> None:
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    edge.socket.send([b"hello"])
    link.pump(lambda: link.received)
    deadline, sent, refused = time.monotonic() + DEADLINE_S, 0, 0
    # More than the edge's queue and both TCP buffers hold, less than those and the cloud's queue.
    while sent < 124 or not refused:
        taken = link.cloud.send(edge.public, [bytes(256 * 1024)])
        sent, refused = sent + taken, refused + (not taken)
        assert time.monotonic() < deadline
    began = time.monotonic()
    link.cloud.close()
    assert time.monotonic() - began < 5


def test_sending_without_a_connection_is_false_at_once() -> None:
    public, _ = new_keypair()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        edge = EdgeSocket(f"tcp://127.0.0.1:{mute.getsockname()[1]}", public, new_keypair()[1])
        assert not edge.send([b"hello"])
        assert edge.poll(0) is None
        assert not edge.connected
        began = time.monotonic()
        edge.close()
        assert time.monotonic() - began < 5


def test_edge_connects_again_after_the_cloud_restarted(link: Link) -> None:
    edge = link.edge()
    link.pump(lambda: edge.socket.connected)
    link.cloud.close()
    while edge.socket.connected:
        edge.socket.poll(0.1)
    link.start()
    link.pump(lambda: edge.socket.connected)
    assert edge.socket.send([b"again"])
    link.pump(lambda: link.received)
    assert edge.events[:2] == ["connected", "disconnected"]
    assert edge.events[-1] == "connected"


class Wire:
    """A TCP relay to `port` that can go silent while every connection stays open, as a pulled cable does."""

    def __init__(self, port: int) -> None:
        self.cut = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._port = port
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._open = [self._server]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._relay, args=(source, sink)))
                    self._threads[-1].start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not self.cut.is_set():
                    sink.sendall(data)


def test_silent_line_is_noticed_within_three_heartbeats(link: Link) -> None:
    with contextlib.closing(Wire(int(link.endpoint.rsplit(":", 1)[1]))) as wire:
        edge = link.edge(endpoint=wire.endpoint, heartbeat_s=0.2)
        link.pump(lambda: edge.socket.connected)
        wire.cut.set()
        began = time.monotonic()
        link.pump(lambda: not edge.socket.connected)
        assert time.monotonic() - began < 3 * 0.2 + 2.0
        wire.cut.clear()
        link.pump(lambda: edge.socket.connected)
        link.edges.clear()
        edge.socket.close()


def test_quiet_but_living_line_stays_up(link: Link) -> None:
    edge = link.edge(heartbeat_s=0.05)
    link.pump(lambda: edge.socket.connected)
    until = time.monotonic() + 0.5
    link.pump(lambda: time.monotonic() > until)
    assert edge.events == ["connected"]


def test_server_that_would_let_everyone_in_does_not_start() -> None:
    with pytest.raises(ProtocolError, match="does not refuse unknown edges") as caught:
        CloudSocket(ANYWHERE, new_keypair()[1], lambda key: True)
    assert caught.value.reason == "runs-open"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_server_whose_authenticator_is_dead_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SELF_TEST_S", 0.3)

    def broken(key: str) -> bool:
        raise RuntimeError("a bug")

    with pytest.raises(ProtocolError) as caught:
        CloudSocket(ANYWHERE, new_keypair()[1], broken)
    assert caught.value.reason == "runs-open"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_authenticator_that_dies_later_is_noticed_and_lets_nobody_in() -> None:
    public, secret = new_keypair()
    fatal, fatal_secret = new_keypair()

    def breaks(key: str) -> bool:
        if key == fatal:
            raise RuntimeError("a bug")
        return False

    events: list[str] = []
    with (
        contextlib.closing(CloudSocket(ANYWHERE, secret, breaks, on_event=events.append)) as cloud,
        contextlib.closing(EdgeSocket(cloud.endpoint, public, fatal_secret)) as edge,
    ):
        with pytest.raises(ProtocolError, match="has died"):
            _poll_for_ever(cloud)
        with contextlib.closing(EdgeSocket(cloud.endpoint, public, secret)) as later:
            later.poll(0.3)
            assert not later.connected
        assert not edge.connected
        assert "connected" not in events


def _poll_for_ever(cloud: CloudSocket) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        cloud.poll(0.1)


def test_edge_is_refused_while_the_list_of_edges_cannot_be_read() -> None:
    public, secret = new_keypair()
    edge_key, edge_secret = new_keypair()
    broken = threading.Event()

    def allowed(key: str) -> bool:
        if broken.is_set():
            raise StorageError("the index is locked")
        return key == edge_key

    with contextlib.closing(CloudSocket(ANYWHERE, secret, allowed)) as cloud:
        broken.set()
        with capture_logs() as logs, contextlib.closing(EdgeSocket(cloud.endpoint, public, edge_secret)) as edge:
            while edge.failure is None:
                edge.poll(1)
                cloud.poll(0)
        assert edge.failure == "refused"
        assert logs[0]["event"] == "edge_check_failed"
        broken.clear()
        with contextlib.closing(EdgeSocket(cloud.endpoint, public, edge_secret)) as edge:
            while not edge.connected:
                edge.poll(1)


class Fixed(random.Random):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


def test_edges_that_were_all_refused_come_again_one_by_one() -> None:
    public, secret = new_keypair()
    knocks: dict[str, list[float]] = {}

    def refuse(key: str) -> bool:
        knocks.setdefault(key, []).append(time.monotonic())
        return False

    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(contextlib.closing(CloudSocket(ANYWHERE, secret, refuse)))
        keys, edges = [], []
        for value in (1.0, 0.0):
            edge_key, edge_secret = new_keypair()
            edge = EdgeSocket(cloud.endpoint, public, edge_secret, reconnect_s=0.1, chance=Fixed(value))
            edges.append(stack.enter_context(contextlib.closing(edge)))
            keys.append(edge_key)
        late, early = keys
        deadline = time.monotonic() + DEADLINE_S
        while len(knocks.get(late, ())) < 2:
            assert time.monotonic() < deadline
            cloud.poll(0.01)
            for edge in edges:
                edge.poll(0)
    assert knocks[late][1] - knocks[late][0] >= 15 * 0.1
    assert knocks[early][1] < knocks[late][1]
    assert knocks[early][1] - knocks[early][0] >= 5 * 0.1


@pytest.mark.parametrize(
    ("listening", "reached"),
    [("tcp://[::1]:0", "tcp://[::1]"), ("tcp://*:0", "tcp://[::1]"), ("tcp://*:0", "tcp://127.0.0.1")],
)
def test_the_link_stands_over_ipv6_too(listening: str, reached: str) -> None:
    with ExitStack() as stack:
        link = Link(stack, endpoint=listening)
        link.start()
        edge = link.edge(endpoint=f"{reached}:{link.endpoint.rpartition(':')[2]}")
        link.pump(lambda: edge.socket.connected)
        assert edge.socket.send([b"hello"])
        link.pump(lambda: link.received)


def test_a_name_with_both_addresses_is_reached_by_ipv4(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET6,), (socket.AF_INET,)])
    edge = link.edge(endpoint=f"tcp://localhost:{link.endpoint.rpartition(':')[2]}")
    link.pump(lambda: edge.socket.connected)


def test_a_name_that_is_not_known_yet_is_looked_up_again(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: object, **__: object) -> list[tuple[int]]:
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror("Temporary failure in name resolution")
        return [(socket.AF_INET,)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    edge = link.edge(endpoint=f"tcp://no.such.host.invalid:{link.endpoint.rpartition(':')[2]}")
    link.pump(lambda: len(asked) == 3)
    assert not edge.socket.connected


def test_port_in_use_is_one_line_that_names_it(link: Link) -> None:
    with pytest.raises(SettingsError, match=rf"cannot listen on {link.endpoint}: Address already in use"):
        CloudSocket(link.endpoint, new_keypair()[1], lambda key: False)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://127.0.0.1", "tcp://host:port:port"])
def test_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError):
        CloudSocket(endpoint, new_keypair()[1], lambda key: False)
    with pytest.raises(ProtocolError):
        EdgeSocket(endpoint, new_keypair()[0], new_keypair()[1])


@pytest.mark.parametrize("key", ["", "short", "é" * 40, "~" * 40, "a" * 45])
def test_malformed_keys_are_refused_without_being_repeated(key: str) -> None:
    good = new_keypair()[1]
    attempts: list[Callable[[], object]] = [
        lambda: public_key(key),
        lambda: CloudSocket(ANYWHERE, key, lambda edge: False),
        lambda: EdgeSocket(ANYWHERE, key, good),
        lambda: EdgeSocket(ANYWHERE, new_keypair()[0], key),
    ]
    for attempt in attempts:
        with pytest.raises(ProtocolError) as caught:
            attempt()
        assert caught.value.reason == "bad-key"
        assert not key or key not in str(caught.value)


def test_key_pairs_are_fresh_and_belong_together() -> None:
    public, secret = new_keypair()
    assert public_key(secret) == public
    assert len(public) == len(secret) == 40
    assert new_keypair() != (public, secret)


def test_many_edges_share_one_context(link: Link) -> None:
    with zmq.Context() as context:
        fleet = []
        for _ in range(20):
            public, secret = new_keypair()
            link.allowed.add(public)
            fleet.append((public, EdgeSocket(link.endpoint, link.keys[0], secret, context=context)))
        for _, edge in fleet:
            while not edge.connected:
                edge.poll(1)
            assert edge.send([b"hello"])
        link.pump(lambda: len(link.received) == 20)
        assert {key for key, _ in link.received} == {public for public, _ in fleet}
        for _, edge in fleet:
            edge.close()
