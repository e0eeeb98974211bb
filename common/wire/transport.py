"""One encrypted port between the edges and the cloud: ZeroMQ DEALER ↔ ROUTER, CURVE always on.

Who sent a message is told by the CURVE key that its connection proved (RFC 26/27), never by what the message claims.
Edges set no routing id and the ROUTER hands none over, so no peer can take another's place: libzmq ignores a peer that
claims a routing id already in use, and honest edges never claim one. Limits apply before anything is received:
MAXMSGSIZE drops the connection of a peer that announces more. Neither class is thread-safe.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import structlog
import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from culling.common.address import by_ipv6
from culling.common.errors import CullingError, ProtocolError, SettingsError
from culling.common.wire.messages import MAX_JPEG, MAX_OFFER

log = structlog.get_logger(__name__)

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"
Socket: TypeAlias = "zmq.Socket[bytes]"

CURVE_OVERHEAD = 64  # MAXMSGSIZE counts a part as it travels: sealed, with nonce, tag and command name
LINGER_MS = 1_000
"""How long a socket that is closed may still send what is queued; a stop never waits longer for a dead line."""

HANDSHAKE_MS = 10_000
"""CURVE takes two round trips: enough for a slow line, and half-open connections are not held longer."""

SELF_TEST_S = 10.0
"""On loopback a stranger is refused within milliseconds; a machine so busy that it takes longer must not serve."""

NAMED_STRANGERS = 1_000  # so that a flood of random keys cannot flood the log
_DOMAIN = b"culling"
_HANDSHAKES = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_EVENTS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "connected",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "handshake-failed",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "handshake-failed",
    zmq.EVENT_DISCONNECTED: "disconnected",
}


def new_keypair() -> tuple[str, str]:
    """Return a fresh CURVE key pair as z85 text, 40 characters each: public, secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_key(secret_key: str) -> str:
    """Return the public half of a z85 secret key. Raises ProtocolError("bad-key") if it is not one."""
    return zmq.curve_public(_key(secret_key)).decode()


class CloudSocket:
    """The cloud's port: receives from every allowed edge, sends to those that have spoken.

    `allowed` is asked with the edge's public key at every handshake, in another thread; if it raises a CullingError
    the edge is refused. `on_event` gets `connected`, `refused` (key not allowed) or `handshake-failed` (wrong server
    key, no CURVE, garbage), in the thread that polls. `tcp://*:PORT` listens on every address of the machine, IPv6 too.
    Raises SettingsError when it cannot listen there, and ProtocolError, having let no peer in: `bad-key`, or
    `runs-open` when a stranger's key is not refused.
    """

    def __init__(
        self,
        endpoint: str,
        secret_key: str,
        allowed: Callable[[str], bool],
        *,
        on_event: Callable[[str], None] = lambda event: None,
        heartbeat_s: float = 30.0,
    ) -> None:
        public = public_key(secret_key)
        self._on_event = on_event
        self._routes: dict[str, bytes] = {}
        self._context: Context = zmq.Context()
        self._doorman = _Doorman(self._context, allowed)
        self._socket = _socket(self._context, zmq.ROUTER, heartbeat_s, MAX_JPEG)
        try:
            self._bind(endpoint, secret_key)
            self._refuse_a_stranger(public)
        except BaseException:
            self._socket.close(0)
            self._context.term()
            raise
        self._monitor = self._socket.get_monitor_socket(_HANDSHAKES | _FAILURES)

    @property
    def endpoint(self) -> str:
        """The address bound to, with the real port where 0 was asked for."""
        return self._endpoint

    def poll(self, timeout_s: float) -> tuple[str, list[bytes]] | None:
        """Return the next message and the public key of the edge that sent it, or None.

        None comes after `timeout_s`, or earlier when an edge came or was refused.
        Raises ProtocolError("no-authenticator") if the thread that checks keys has died: then new edges are refused.
        """
        if not self._doorman.is_alive():
            raise ProtocolError("no-authenticator", "the thread that checks edge keys has died: restart the service")
        ready = _wait(self._socket, self._monitor, timeout_s)
        for event in _events(self._monitor):
            self._on_event(_EVENTS[event])
        if not ready:
            return None
        route, *parts = self._socket.recv_multipart(copy=False)
        edge_key = str(route.get("User-Id"))
        self._routes[edge_key] = route.bytes
        return edge_key, [part.bytes for part in parts]

    def send(self, edge_key: str, parts: Sequence[bytes]) -> bool:
        """Send to the connection that `edge_key` last spoke on; return False when it is gone or its queue is full."""
        route = self._routes.get(edge_key)
        if route is None:
            return False
        try:
            self._socket.send_multipart([route, *parts], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            del self._routes[edge_key]
            return False
        return True

    def close(self) -> None:
        """Send what is queued, for a second at most, and free the port; once is enough."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(LINGER_MS)
        self._context.term()
        self._doorman.join()

    def _bind(self, endpoint: str, secret_key: str) -> None:
        self._socket.curve_server = True
        self._socket.curve_secretkey = _key(secret_key)
        self._socket.zap_domain = _DOMAIN
        # Without it, libzmq lets everyone in when no authenticator answers.
        self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.BACKLOG, 1024)
        self._socket.ipv6 = endpoint.startswith(("tcp://[", "tcp://*"))
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise SettingsError(f"cannot listen on {endpoint}: {error.strerror}") from None
        self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _refuse_a_stranger(self, public: str) -> None:
        """Knock with a random key: only a refusal, not silence, proves that the door is kept."""
        stranger, secret = new_keypair()
        self._doorman.named.add(stranger)
        here = self._endpoint.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        edge = EdgeSocket(here, public, secret)
        try:
            deadline = time.monotonic() + SELF_TEST_S
            while edge.failure is None and not edge.connected and time.monotonic() < deadline:
                edge.poll(deadline - time.monotonic())
            if edge.failure != "refused":
                raise ProtocolError("runs-open", f"{self._endpoint} does not refuse unknown edges: not starting")
        finally:
            edge.close()


class EdgeSocket:
    """The edge's end of the link. It connects, and connects again, by itself; `send` never waits.

    `connected` and `failure` are kept by `poll`. `failure` says how the last handshake failed, None once one succeeds:
    `refused` when the cloud does not know our key, `handshake-failed` when its key is not the one we were given or it
    speaks something else. `on_event` gets these words, `connected` and `disconnected`. A dead link is noticed within
    three heartbeats; they are slow by default because a JPEG on a thin line holds back the answer to one. After a
    refusal it knocks again within 5 to 15 times `reconnect_s`, by `chance`: a cloud that once refused every edge, since
    it could not read who is enrolled, is not stormed by all of them at once. A shared `context` lets many edges run in
    one process. Raises ProtocolError("bad-key" | "connect").
    """

    def __init__(
        self,
        endpoint: str,
        server_key: str,
        secret_key: str,
        *,
        on_event: Callable[[str], None] = lambda event: None,
        heartbeat_s: float = 30.0,
        reconnect_s: float = 1.0,
        context: Context | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.connected = False
        self.failure: str | None = None
        self._endpoint = endpoint
        self._keys = (_key(server_key), _key(public_key(secret_key)), _key(secret_key))
        self._on_event = on_event
        self._heartbeat_s = heartbeat_s
        self._reconnect_s = reconnect_s
        self._chance = chance or random.Random()
        self._retry_at: float | None = None
        self._shared = context is not None
        self._context: Context = zmq.Context() if context is None else context
        self._open()

    def poll(self, timeout_s: float) -> list[bytes] | None:
        """Return the parts of the next message, or None after `timeout_s` or as soon as the link's state changed."""
        if self._retry_at is not None:
            if time.monotonic() >= self._retry_at:
                self._close_socket()
                self._open()
            else:
                timeout_s = min(timeout_s, self._retry_at - time.monotonic())
        ready = _wait(self._socket, self._monitor, timeout_s)
        for event in _events(self._monitor):
            self._note(event)
        return self._socket.recv_multipart() if ready else None

    def send(self, parts: Sequence[bytes]) -> bool:
        """Queue a message; return False at once when there is no connection or the queue is full."""
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Send what is queued, for a second at most, and disconnect; once is enough."""
        if self._socket.closed:
            return
        self._close_socket()
        if not self._shared:
            self._context.term()

    def _open(self) -> None:
        ipv6 = by_ipv6(self._endpoint)
        self._retry_at = time.monotonic() + self._pause() if ipv6 is None else None
        self._socket = _socket(self._context, zmq.DEALER, self._heartbeat_s, MAX_OFFER)
        self._monitor = self._socket.get_monitor_socket(_HANDSHAKES | _FAILURES | zmq.EVENT_DISCONNECTED)
        try:
            self._socket.ipv6 = bool(ipv6)  # of a name with both addresses libzmq would only try the one of IPv6
            self._socket.immediate = True  # never queue for a connection that does not stand: the spool is the queue
            self._socket.reconnect_ivl = int(1000 * self._reconnect_s)
            self._socket.reconnect_ivl_max = int(30_000 * self._reconnect_s)
            self._socket.curve_serverkey, self._socket.curve_publickey, self._socket.curve_secretkey = self._keys
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ProtocolError("connect", f"cannot connect to {self._endpoint}: {error.strerror}") from None

    def _close_socket(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(LINGER_MS)

    def _note(self, event: int) -> None:
        name = _EVENTS[event]
        if name == "disconnected" and not self.connected:
            return
        self.connected = name == "connected"
        if name != "disconnected":
            self.failure = None if self.connected else name
        if name == "refused":
            # libzmq gives up for good after a refusal (libzmq#3519); an edge may be enrolled later.
            self._retry_at = time.monotonic() + self._pause()
        elif self.connected:
            self._retry_at = None
        self._on_event(name)

    def _pause(self) -> float:
        return self._chance.uniform(5, 15) * self._reconnect_s


class _Doorman(threading.Thread):
    """Answers libzmq's question whether a CURVE key may come in (ZAP, RFC 27); ends with its context."""

    def __init__(self, context: Context, allowed: Callable[[str], bool]) -> None:
        super().__init__(name="doorman", daemon=True)
        self.named: set[str] = set()
        self._allowed = allowed
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind("inproc://zeromq.zap.01")
        self.start()

    def run(self) -> None:
        with self._socket:
            try:
                while True:
                    version, request, *_, mechanism, credential = self._socket.recv_multipart()
                    key = z85.encode(credential).decode() if mechanism == b"CURVE" else ""
                    code, text = (b"200", b"OK") if self._admits(key) else (b"400", b"unknown key")
                    self._socket.send_multipart([version, request, code, text, key.encode(), b""])
            except zmq.ContextTerminated:
                return

    def _admits(self, key: str) -> bool:
        try:
            if key and self._allowed(key):
                return True
        except CullingError as error:
            log.error("edge_check_failed", key=key, error=str(error))
            return False
        if key not in self.named and len(self.named) < NAMED_STRANGERS:
            self.named.add(key)
            log.warning("edge_refused", key=key)
        return False


def _key(text: str) -> bytes:
    """Return a z85 key as libzmq wants it; its own error would not say which setting was wrong."""
    try:
        if len(z85.decode(text)) == 32:
            return text.encode()
    except (KeyError, ValueError):
        pass
    raise ProtocolError("bad-key", "a CURVE key must be 40 characters of z85: make one with `new_keypair`")


def _socket(context: Context, kind: int, heartbeat_s: float, largest: int) -> Socket:
    socket = context.socket(kind)
    socket.linger = LINGER_MS
    socket.maxmsgsize = largest + CURVE_OVERHEAD
    socket.sndhwm = socket.rcvhwm = 64
    socket.handshake_ivl = HANDSHAKE_MS
    socket.heartbeat_ivl = int(1000 * heartbeat_s)
    socket.heartbeat_timeout = int(2000 * heartbeat_s)
    return socket


def _wait(socket: Socket, monitor: Socket, timeout_s: float) -> bool:
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    return any(ready is socket for ready, _ in poller.poll(max(0, int(1000 * timeout_s))))


def _events(monitor: Socket) -> Iterator[int]:
    while monitor.poll(0):
        yield parse_monitor_message(monitor.recv_multipart())["event"]
