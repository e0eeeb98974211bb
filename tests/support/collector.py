"""A collector of OpenTelemetry for tests: a real HTTP server that decodes what the real exporter sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.waiting import wait_until


@dataclass(frozen=True)
class Span:
    """A span as it came; ids are hex digits, times seconds since the epoch."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: float
    ended: float
    about: dict[str, Any]
    failed: str


@dataclass
class Collector:
    """What came, and where; every request is answered with `status`, once `gate` is set."""

    endpoint: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def until(self, *names: str) -> None:
        """Wait until a span of each of these names has come."""
        wait_until(lambda: set(names) <= {span.name for span in self.spans})


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve one on a free port of loopback."""
    made = Collector()
    made.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.paths.append(self.path)
            made.headers.append(dict(self.headers.items()))
            made.gate.wait(30)
            if made.status == 200:
                made.spans.extend(_decoded(body))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _decoded(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Span(
                service,
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano / 1e9,
                span.end_time_unix_nano / 1e9,
                _values(span.attributes),
                span.status.message if span.status.code == 2 else "",
            )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
