"""Plain HTTP: against a server of ours, with whatever headers a test wants to send; and a folder served."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        self._connection.request("GET", "/events")
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
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
