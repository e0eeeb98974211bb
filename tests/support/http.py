"""Plain HTTP: against a server of ours, with whatever headers a test wants to send; a folder served; and cameras."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Answer:
    """Status, headers by lower-case name, and body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(url: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Send one request; underscores in header names stand for dashes, and `body` goes as JSON unless it is bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, data, sent)
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Stream:
    """An open event stream."""

    def __init__(self, url: str, **headers: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        self._connection.request("GET", "/events", headers=headers)
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def next(self, kind: str = "fleet") -> Any:
        """Return the data of the next event of that kind."""
        event = ""
        while True:
            line = self._response.readline().decode().rstrip("\r\n")
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == kind:
                return json.loads(value)

    def close(self) -> None:
        self._connection.close()
        self._response.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on a free port."""
    with _serving(functools.partial(_Quiet, directory=str(folder))) as url:
        yield url


@dataclass
class Web:
    """A server of which a test says what it answers, and the paths that it was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Web]:
    """Let `answer` write what every GET is answered with; a client that leaves ends it."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _serving(Handler) as web.url:
        yield web


def send(to: BaseHTTPRequestHandler, status: int, kind: str, body: bytes, **headers: str) -> None:
    """Answer with a whole body."""
    to.send_response(status)
    to.send_header("Content-Type", kind)
    to.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        to.send_header(name.replace("_", "-"), value)
    to.end_headers()
    to.wfile.write(body)


def send_parts(
    to: BaseHTTPRequestHandler, pictures: Iterable[bytes], kind: str = "image/jpeg", first: bool = True
) -> None:
    """Answer as an MJPEG camera does; `kind` is told of each part, the `first` boundary may be missing."""
    to.send_response(200)
    to.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    to.end_headers()
    for number, jpeg in enumerate(pictures):
        boundary = b"--frame\r\n" if number or first else b""
        to.wfile.write(boundary + f"Content-Type: {kind}\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode())
        to.wfile.write(jpeg + b"\r\n")
        to.wfile.flush()


@contextlib.contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
