"""`[traces]` of both sides, and what opens them. OpenTelemetry is imported only where an endpoint is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import structlog
from pydantic import Field, field_validator

from culling.common.config import Section
from culling.common.errors import MissingExtraError
from culling.common.metrics import Metrics

if TYPE_CHECKING:
    from culling.common.traces.spans import Traces

log = structlog.get_logger(__name__)

EXTRA = "traces.endpoint is set, but OpenTelemetry is not installed: `pip install 'culling[otel]'`, or leave it empty"

Side = Literal["edge", "cloud"]


class TracesSettings(Section):
    """`[traces]`: where the spans of forwarded frames go; nowhere without an `endpoint`."""

    endpoint: str = Field(
        default="",
        description="collector that takes OTLP over HTTP, e.g. `http://127.0.0.1:4318`, for a trace of each forwarded "
        "frame; empty: none. Needs `culling[otel]`. Secrets for it go into OTEL_EXPORTER_OTLP_HEADERS",
    )
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the forwarded frames that are traced; give both sides the same, and they choose the same",
    )

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str) -> str:
        if not endpoint:
            return endpoint
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT, or nothing")
        if "@" in parts.netloc:
            raise ValueError("holds a password: put it into the variable OTEL_EXPORTER_OTLP_HEADERS")
        return endpoint


def open_traces(settings: TracesSettings, side: Side, metrics: Metrics | None = None) -> Traces | None:
    """Return where spans go, None where none are wanted. Raises MissingExtraError without `culling[otel]`."""
    if not settings.endpoint:
        return None
    try:
        from culling.common.traces.spans import Traces
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise MissingExtraError(EXTRA) from None
    return Traces(settings.endpoint, settings.share, side, metrics)


@contextmanager
def traces_or_none(settings: TracesSettings, side: Side) -> Iterator[Traces | None]:
    """Give where the spans of a child process go until the block ends; where that cannot be opened it works without.

    Its service has refused to start where the extra is missing, but a child may run on another machine.
    """
    try:
        traces = open_traces(settings, side)
    except MissingExtraError as error:
        log.warning("traces_unavailable", error=str(error))
        traces = None
    try:
        yield traces
    finally:
        if traces is not None:
            traces.close()
