from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.common.metrics import Metrics
from culling.common.traces import spans
from culling.common.traces.spans import Traces
from culling.common.wire.protocol import frame_id
from support.collector import Collector, collector
from support.site import free_port
from support.waiting import wait_until

FRAME = frame_id("k" * 40, "boot-1", 7)
AT = 1_800_000_000.0


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), "edge")


def test_a_span_reaches_the_collector_as_it_was_told(collecting: Collector, metrics: Metrics) -> None:
    traces = Traces(collecting.endpoint, 1.0, "edge", metrics)
    traces.span("edge.send", FRAME, AT, AT + 1.5, {"camera": "gate", "loss": 2.5, "round": 3})
    traces.close(20)
    [span] = collecting.spans
    assert (span.service, span.name, span.failed) == ("culling-edge", "edge.send", "")
    assert (span.began, span.ended) == (AT, AT + 1.5)
    told = {"culling.frame": FRAME, "culling.camera": "gate", "culling.loss": 2.5, "culling.round": 3}
    assert span.about == told
    assert collecting.paths == ["/v1/traces"]
    assert metrics.total("spans_exported") == 1
    assert metrics.total("spans_dropped") == 0


def test_a_trace_is_named_as_its_frame_and_its_spans_hang_on_the_first(collecting: Collector) -> None:
    for side, name, first in (("edge", "edge.forward", True), ("cloud", "cloud.store", False)):
        traces = Traces(collecting.endpoint, 1.0, side, None)  # type: ignore[arg-type]
        traces.span(name, FRAME, AT, AT, {}, first=first)
        traces.close(20)
    forward, store = collecting.spans
    assert forward.trace == store.trace == FRAME
    assert (forward.id, forward.parent) == (FRAME[:16], "")
    assert store.parent == forward.id
    assert store.id != forward.id


def test_the_span_after_a_first_one_has_an_id_of_its_own(collecting: Collector) -> None:
    other = frame_id("k" * 40, "boot-1", 8)
    traces = Traces(collecting.endpoint, 1.0, "edge")
    traces.span("edge.forward", FRAME, AT, AT, {}, first=True)
    traces.span("edge.send", other, AT, AT, {})
    traces.close(20)
    assert [span.trace for span in collecting.spans] == [FRAME, other]
    assert collecting.spans[1].id not in (FRAME[:16], other[:16])


def test_what_failed_is_told_and_a_clock_set_back_makes_no_negative_time(collecting: Collector) -> None:
    traces = Traces(collecting.endpoint, 1.0, "edge")
    traces.span("edge.send", FRAME, AT, AT - 60, {}, failed="purged")
    traces.close(20)
    [span] = collecting.spans
    assert (span.failed, span.began, span.ended) == ("purged", AT, AT)


def test_both_sides_choose_the_same_share(collecting: Collector, metrics: Metrics) -> None:
    frames = [frame_id("k" * 40, "boot-1", seq) for seq in range(200)]
    for name in ("edge", "cloud"):
        traces = Traces(collecting.endpoint, 0.25, name, metrics if name == "edge" else None)  # type: ignore[arg-type]
        for frame in frames:
            traces.span(name, frame, AT, AT, {}, first=name == "edge")
        traces.close(20)
    edge, cloud = ({span.trace for span in collecting.named(name)} for name in ("edge", "cloud"))
    assert edge == cloud
    assert 20 < len(edge) < 80
    assert metrics.total("spans_dropped") == 0, "what is not traced is not lost"


def test_a_path_in_the_endpoint_is_kept(collecting: Collector) -> None:
    traces = Traces(f"{collecting.endpoint}/api/default/v1/traces", 1.0, "cloud")
    traces.span("cloud.store", FRAME, AT, AT, {})
    traces.close(20)
    assert collecting.paths == ["/api/default/v1/traces"]


def test_the_standard_variables_carry_a_secret(collecting: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2")
    with capture_logs() as logs:
        traces = Traces(collecting.endpoint, 1.0, "edge")
        traces.span("edge.send", FRAME, AT, AT, {})
        traces.close(20)
    assert "Bearer hunter2" in {value for headers in collecting.headers for value in headers.values()}
    assert "hunter2" not in str(logs)


def test_a_collector_that_refuses_is_said_once_and_counted(
    collecting: Collector, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collecting.status = 401
    with capture_logs() as logs, caplog.at_level(logging.DEBUG, "opentelemetry"):
        traces = Traces(collecting.endpoint, 1.0, "edge", metrics)
        for number in (1, 2, 3):
            traces.span("edge.send", FRAME, AT, AT, {})
            wait_until(lambda many=number: metrics.by("reason", "spans_dropped")["not-delivered"] == many)  # type: ignore[misc]
        collecting.status = 200
        traces.span("edge.send", FRAME, AT, AT, {})
        wait_until(lambda: metrics.total("spans_exported") == 1)
        traces.close(20)
    said = [line for line in logs if line["event"] != "traces_opened"]
    assert [line["event"] for line in said] == ["traces_failing", "traces_resumed"]
    assert "401" in said[0]["error"]
    assert not caplog.records, "the exporter's own lines would come for each batch"
    assert len(collecting.spans) == 1


def test_a_dead_collector_holds_nobody_up_and_what_it_did_not_get_is_counted(metrics: Metrics) -> None:
    traces = Traces(f"http://127.0.0.1:{free_port()}", 1.0, "edge", metrics)
    started = time.monotonic()
    for _ in range(spans.QUEUE + 100):
        traces.span("edge.send", FRAME, AT, AT, {})
    made = time.monotonic()
    with capture_logs() as logs:
        traces.close(0.2)
    closed = time.monotonic()
    assert made - started < 10, "each of 2,148 spans waiting for the collector would cost far more"
    assert closed - made < 5, "the standard processor alone would take half a minute"
    assert metrics.total("spans_exported") == 0
    lost = metrics.by("reason", "spans_dropped")
    assert sum(lost.values()) == spans.QUEUE + 100
    assert lost["queue-full"] >= 100
    assert "spans_dropped" in [line["event"] for line in logs]


def test_a_collector_that_hangs_bounds_what_waits(
    collecting: Collector, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "QUEUE", 10)
    monkeypatch.setattr(spans, "BATCH", 2)
    collecting.gate.clear()
    traces = Traces(collecting.endpoint, 1.0, "edge", metrics)
    for _ in range(15):
        traces.span("edge.send", FRAME, AT, AT, {})
    assert metrics.by("reason", "spans_dropped")["queue-full"] == 5, "those on their way count among those that wait"
    collecting.gate.set()
    traces.close(20)
    assert len(collecting.spans) == metrics.total("spans_exported") == 10


def test_a_span_that_cannot_be_made_costs_itself_alone(collecting: Collector, metrics: Metrics) -> None:
    traces = Traces(collecting.endpoint, 1.0, "edge", metrics)
    with capture_logs() as logs:
        traces.span("edge.send", "no hex digits", AT, AT, {})
    traces.span("edge.send", FRAME, AT, AT, {})
    traces.close(20)
    assert metrics.by("reason", "spans_dropped")["broken"] == 1
    assert [line["event"] for line in logs] == ["traces_failing"]
    assert len(collecting.spans) == 1


def test_after_its_end_a_span_goes_nowhere(collecting: Collector, metrics: Metrics) -> None:
    traces = Traces(collecting.endpoint, 1.0, "edge", metrics)
    traces.close()
    traces.span("edge.send", FRAME, AT, AT, {})
    assert not collecting.spans
    assert metrics.total("spans_dropped") == 0
