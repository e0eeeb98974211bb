"""What the bench of outputs sends to: a mosquitto where there is one, an HTTPS server, and a reader of ZeroMQ; or ends
that take a connection and then do nothing at all.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from culling.common.errors import CullingError

HERE = "127.0.0.1"
START_S = 10.0
READ = "import sys; from culling.common.detections import follow; any(False for _ in follow(sys.argv[1]))"
Table = dict[str, Any]


def mosquitto() -> str | None:
    """Return where mosquitto is; Debian installs it where only root looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def receivers(folder: Path) -> Iterator[dict[str, Table]]:
    """Start everything; yield the `[[output]]` table for each kind that can be measured here, by kind."""
    cert, key = _certificate(folder)
    bind = f"tcp://{HERE}:{free_port()}"
    tables: dict[str, Table] = {
        "jsonl": {"kind": "jsonl", "path": str(folder / "detections.jsonl")},
        "stdout": {"kind": "stdout"},
        "zmq": {"kind": "zmq", "bind": bind},
    }
    with _server(cert, key) as port, _process([sys.executable, "-c", READ, bind]):
        tables["webhook"] = {
            **{"kind": "webhook", "url": f"https://{HERE}:{port}/", "ca_file": str(cert)},
            **{"batch": 500, "batch_s": 0.1},
        }
        if (program := mosquitto()) is None:
            yield tables
            return
        at = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {at} {HERE}\nallow_anonymous true\n")
        with _process([program, "-c", str(config)]):
            _wait_for(at)
            tables["mqtt"] = {"kind": "mqtt", "url": f"mqtt://{HERE}:{at}", "client_id": "bench"}
            yield tables


@contextmanager
def stalled() -> Iterator[dict[str, Table]]:
    """Yield the `[[output]]` table for each kind that another machine can hold up, whose other end never answers."""
    with socket.create_server((HERE, 0)) as silent:
        port = silent.getsockname()[1]
        yield {
            "zmq": {"kind": "zmq", "bind": f"tcp://{HERE}:{free_port()}"},
            "webhook": {"kind": "webhook", "url": f"http://{HERE}:{port}/"},
            "mqtt": {"kind": "mqtt", "url": f"mqtt://{HERE}:{port}", "client_id": "bench"},
        }


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        return int(taken.getsockname()[1])


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _server(cert: Path, key: Path) -> Iterator[int]:
    server = ThreadingHTTPServer((HERE, 0), _Taker)
    server.daemon_threads, server.block_on_close = True, False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Taker(BaseHTTPRequestHandler):
    """Takes every batch."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((HERE, port), 1.0).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise CullingError(f"mosquitto does not listen on port {port}: {error.strerror}") from None
            time.sleep(0.05)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for this machine's own address, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HERE)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HERE))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    plain = serialization.NoEncryption()
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths
