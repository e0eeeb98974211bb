"""Spans through the standard SDK of OpenTelemetry: a batch at a time, on its thread, over OTLP/HTTP.

The id of a frame's trace is the frame's id in the store (`protocol.frame_id`), which both sides compute, so that
nothing of it travels between them. Its first span, the edge's, has the first half of that as its id, which is how the
others name it as their parent without having heard of it.

Whoever makes a span never waits and never fails: what finds `QUEUE` others waiting is dropped and counted, as is what
the collector did not take.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from culling.common.metrics import Metrics

log = structlog.get_logger(__name__)

PATH = "/v1/traces"
"""Where a collector takes traces, unless the endpoint names another path."""

QUEUE = 2048
"""Spans that wait at most; a forwarded frame makes two at the edge, and three or four in the cloud."""

BATCH = 512
EXPORT_S = 5.0
"""How long a batch is tried; an agent that ends does not wait for it."""

CLOSE_S = 1.0
"""How long the last spans may take when the process ends."""

About: TypeAlias = Mapping[str, str | int | float]
"""What a span tells of itself: `culling.` is put before each name."""

LOST = ("queue-full", "not-delivered", "stopped", "broken")
"""Why spans are lost."""


class Traces:
    """Where the spans of one process go. Any thread may make them."""

    def __init__(
        self, endpoint: str, share: float, side: Literal["edge", "cloud"], metrics: Metrics | None = None
    ) -> None:
        self._endpoint = endpoint if urlsplit(endpoint).path not in ("", "/") else endpoint.rstrip("/") + PATH
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting = 0
        self._failing = self._closed = False
        for reason in LOST if metrics else ():
            self._lost(0, reason)
        self._ids = _Ids()
        self._exporter = _Exporter(self._endpoint, self._ended)
        self._provider = TracerProvider(
            TraceIdRatioBased(share),
            Resource.create({"service.name": f"culling-{side}", "service.version": version("culling")}),
            shutdown_on_exit=False,  # `close` bounds how long that takes
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer("culling")
        log.info("traces_opened", endpoint=self._endpoint, share=share)

    def span(
        self,
        name: str,
        frame: str,
        began: float,
        ended: float,
        about: About,
        *,
        first: bool = False,
        failed: str = "",
    ) -> None:
        """Make a span of `frame`, an id of 32 hex digits; `began` and `ended` are seconds since the epoch.

        `first` is the one that the frame's others hang on; `failed` says what went wrong. Never waits, never raises.
        """
        with self._lock:
            full = self._waiting >= QUEUE
            if self._closed:
                return
            self._waiting += not full
        if full:
            self._lost(1, "queue-full")
            return
        try:
            attributes = {"culling.frame": frame} | {f"culling.{key}": value for key, value in about.items()}
            span = self._tracer.start_span(
                name, self._context(frame, first), attributes=attributes, start_time=_nanoseconds(began)
            )
            taken = span.is_recording()
            if failed:
                span.set_status(Status(StatusCode.ERROR, failed))
            span.end(_nanoseconds(max(began, ended)))  # a clock may be set back
        except Exception as error:  # a frame is not lost for its trace
            self._ended(1, error=str(error), reason="broken")
            return
        if not taken:  # it is not of the share that is traced
            with self._lock:
                self._waiting -= 1

    def close(self, within_s: float = CLOSE_S) -> None:
        """Hand over what waits, for so many seconds at most; what is left then is lost and counted."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(within_s)
        with self._lock:
            self._closed, left = True, self._waiting
            self._waiting = 0
        self._exporter.shutdown()  # wakes it where it waits to try again
        if left:
            self._lost(left, "stopped")
            log.warning("spans_dropped", spans=left, endpoint=self._endpoint)

    def _context(self, frame: str, first: bool) -> Context:
        """Return what makes the next span of this thread the first of its frame's trace, or hangs it on that."""
        trace, root = int(frame, 16), int(frame[:16], 16)
        if first:
            self._ids.next(trace, root)
            return Context()
        parent = SpanContext(trace, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        return set_span_in_context(NonRecordingSpan(parent), Context())

    def _ended(self, spans: int, error: str | None, reason: str = "not-delivered") -> None:
        """Take that so many spans were handed over, or were not because of `error`; say it when that changes."""
        with self._lock:
            if self._closed:  # they have been counted
                return
            self._waiting -= spans
            changed, self._failing = self._failing != (error is not None), error is not None
        if error is not None:
            self._lost(spans, reason)
        elif self._metrics is not None:
            self._metrics.count("spans_exported", spans)
        if changed and error is not None:
            log.warning("traces_failing", endpoint=self._endpoint, error=error)
        elif changed:
            log.info("traces_resumed", endpoint=self._endpoint)

    def _lost(self, spans: int, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.count("spans_dropped", spans, reason=reason)


class _Ids(RandomIdGenerator):
    """Random ids, but for the one span that the thread has named before it starts it."""

    def __init__(self) -> None:
        self._named = threading.local()

    def next(self, trace: int, span: int) -> None:
        """Give the next span that this thread starts these ids."""
        self._named.trace, self._named.span = trace, span

    def generate_trace_id(self) -> int:
        return self._named.__dict__.pop("trace", None) or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._named.__dict__.pop("span", None) or super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False


class _Exporter(SpanExporter):
    """The standard exporter; `told` hears of how many spans it took, and of what went wrong, or None."""

    def __init__(self, endpoint: str, told: Callable[[int, str | None], None]) -> None:
        self._told = told
        self._over = False
        self._heard = _Heard()
        self._exporter = trace_exporter.OTLPSpanExporter(endpoint, timeout=EXPORT_S)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand over a batch, or give it up."""
        error: str | None = None
        with self._heard:
            try:
                result = self._exporter.export(spans)
            except Exception as unexpected:
                result, error = SpanExportResult.FAILURE, f"{type(unexpected).__name__}: {unexpected}"
        if result is not SpanExportResult.SUCCESS:
            error = error or self._heard.first or "the collector did not take them"
        self._told(len(spans), error)
        return result

    def shutdown(self) -> None:
        """Give up what is being tried."""
        if not self._over:
            self._over = True
            self._exporter.shutdown()


class _Heard(logging.Handler):
    """Takes, while a batch is exported, what the exporter tells its logger alone: why it failed.

    It would say so for each attempt of each batch; we say it once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = ""
        self._logger = logging.getLogger(trace_exporter.__name__)

    def __enter__(self) -> None:
        self.first = ""
        self._logger.addHandler(self)
        self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
