"""A small HTTP server beside each process: `/metrics`, `/healthz` (it runs) and `/readyz` (it does its job)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from culling.common.errors import SettingsError
from culling.common.wire.address import family, in_url

log = structlog.get_logger(__name__)

Ready = Callable[[], tuple[bool, str]]
"""Returns whether the process does its job, and a few words that say why or why not."""

READ_TIMEOUT_S = 5.0
"""A client that is silent for so long is disconnected; scrapers and probes send their request at once."""


class HealthServer:
    """Serves from a daemon thread as soon as it is made; port 0 takes a free one, see `port`.

    Raises `SettingsError` when the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, ready: Ready) -> None:
        try:
            self._server = _Server((host, port), registry, ready)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingsError(
                f"metrics.host, metrics.port: cannot listen on {in_url(host)}:{port}: {reason}"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; waits for the thread, not for clients."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, ready: Ready) -> None:
        self.registry = registry
        self.ready = ready
        self.address_family = family(address[0])
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that hung up is not worth a line
            log.exception("health_request_failed")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_TIMEOUT_S

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
            case "/healthz":
                self._answer(HTTPStatus.OK, b"ok\n")
            case "/readyz":
                ready, why = self.server.ready()
                self._answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n".encode())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"known: /metrics /healthz /readyz\n")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "culling"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: scrapes come every few seconds."""
