"""Plain HTTP against a server of ours, with whatever headers a test wants to send."""

from __future__ import annotations

import http.client
import json
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
