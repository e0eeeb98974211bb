"""What outputs talk to, for real: a mosquitto, an HTTPS server with a certificate of its own; and frames to tell of."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import ipaddress
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client import CollectorRegistry

from culling.cloud.weights.classes import CLASSES
from culling.common.clock import Clock, SystemClock
from culling.common.detections import Batch, Record
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.selection.selector import Action, Decision
from culling.edge.camera.pacing import Backoff
from culling.edge.output.outlet import Outlet
from culling.edge.output.seen import Seen
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, CameraNow, Sink, build
from support.site import free_port
from support.waiting import LONG_S, wait_until

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
CAMERAS = (CameraNow("gate", "live", CLASSES, ("yard",)),)


def settings(kind: str, **told: Any) -> OutputSettings:
    return OutputSettings(**{"kind": kind, **told})


def sink(told: OutputSettings, clock: Clock | None = None, cameras: Sequence[CameraNow] = CAMERAS) -> Any:
    return build(told, Around(clock or SystemClock(), lambda: cameras))


def seen(
    seq: int = 0,
    labels: Sequence[str] = ("person",),
    scores: Sequence[float] | None = None,
    camera: str = "gate",
    at: float = 1_800_000_000.0,
    **changes: Any,
) -> Seen:
    """A frame in which there is a box for each of `labels`."""
    boxes = np.array([[10 * n, 20, 10 * n + 8.04, 60] for n in range(len(labels))], np.float32).reshape(-1, 4)
    found = Detections(
        boxes,
        np.array(scores if scores is not None else [0.9] * len(labels), np.float32),
        np.array([CLASSES.index(label) for label in labels], np.int64),
    )
    told: dict[str, Any] = {"decision": Decision(Action.SKIP, "below"), "loss": 1.5, **changes}
    return Seen(camera, seq, seq / 25, at, 160, 128, "gate-1", 1, CLASSES, found, **told)


def records(count: int, first: int = 0) -> tuple[Record, ...]:
    return tuple(seen(number).record(np.ones(1, bool), {}) for number in range(first, first + count))


def batch(count: int = 1, first: int = 0, name: str = "batch-1") -> Batch:
    return Batch(id=name, records=records(count, first))


class Working:
    """An outlet at work on a sink, with pauses of a tenth of a second at most, and its counters."""

    def __init__(self, sink: Sink, clock: Clock | None = None) -> None:
        self.metrics = Metrics(CollectorRegistry(), "edge")
        pauses = Backoff(random.Random(0), 0.02, 0.1)
        self.outlet = Outlet(sink.settings, sink, self.metrics, clock or SystemClock(), pauses)
        self.outlet.start()

    @property
    def sent(self) -> int:
        return int(self.metrics.total("output_records"))

    @property
    def dropped(self) -> dict[str, int]:
        found = self.metrics.by("reason", "output_records_dropped")
        return {reason: int(count) for reason, count in found.items() if count}

    def offer(self, count: int, first: int = 0) -> None:
        for number in range(first, first + count):
            self.outlet.offer(seen(number))

    def wait_for(self, sent: int, within_s: float = LONG_S) -> None:
        wait_until(lambda: self.sent >= sent, within_s)

    def close(self, within_s: float = 5.0) -> None:
        self.outlet.close(within_s)


# A broker


@dataclass
class Broker:
    """A mosquitto in `folder` that can be stopped, started and frozen; `url` without a user."""

    folder: Path
    lines: Sequence[str] = ()
    tls: Certificate | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://127.0.0.1:{self.port}"

    def start(self) -> Broker:
        config = [f"listener {self.port} 127.0.0.1", *(self.lines or ("allow_anonymous true",))]
        config += [f"user {getpass.getuser()}"]  # one that root starts gives up the right to read a test's folder
        if self.tls:
            config += [f"certfile {self.tls.cert}", f"keyfile {self.tls.key}"]
        (self.folder / "mosquitto.conf").write_text("\n".join(config) + "\n")
        command = [str(MOSQUITTO), "-c", str(self.folder / "mosquitto.conf")]
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._listens)
        return self

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(LONG_S)
            self.process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Subscriber:
    """Collects all that a broker sends, by topic."""

    def __init__(self, broker: Broker, user: str | None = None, password: str | None = None) -> None:
        self.messages: list[tuple[str, str]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self._client.username_pw_set(user, password)
        if broker.tls:
            self._client.tls_set_context(ssl.create_default_context(cafile=str(broker.tls.cert)))
        self._client.on_message = lambda *told: self.messages.append((told[2].topic, told[2].payload.decode()))
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert ready.wait(10)

    def of(self, topic: str) -> list[str]:
        return [payload for name, payload in self.messages if name == topic]

    def last(self, topic: str) -> str | None:
        return (self.of(topic) or [None])[-1]

    def publish(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


# A server


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that nobody but its own file vouches for."""

    cert: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / "cert.pem", folder / "key.pem")
    found.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@dataclass(frozen=True)
class Request:
    """What a server got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["records"]
        return found


Answering = Callable[[Request], "int | tuple[int, dict[str, str]]"]


class HttpsServer:
    """Answers POST as `answer` says, over TLS where there is a certificate; `stall` keeps every client waiting."""

    def __init__(self, answer: Answering = lambda request: 204, tls: Certificate | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.answer = answer
        self.stall = threading.Event()
        self.stall.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                outer.requests.append(request)
                outer.stall.wait(60)
                told = outer.answer(request)
                code, headers = told if isinstance(told, tuple) else (told, {})
                self.send_response(code)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", port), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def sequences(self) -> list[int]:
        """The frames that came, each as often as it came."""
        return [record["seq"] for request in self.requests for record in request.records]

    def close(self) -> None:
        self.stall.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for client in self._server.clients:  # who is connected would be served on
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.clients: list[Any] = []
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.clients.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is what the tests are about."""
