"""The edge's spans, from its real stages to a real collector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from culling.common.clock import SystemClock
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.selection.selector import Released
from culling.common.traces.spans import Traces
from culling.common.wire.messages import HardFrame, Nack
from culling.common.wire.protocol import frame_id
from culling.edge.settings import load_settings
from culling.edge.spool.forwarder import Forwarder
from culling.edge.spool.recorder import Recorder, Selected, WindowEnd
from culling.edge.spool.spool import Spool
from culling.edge.spool.traced import Traced
from culling.edge.watchdog import Watchdog
from support.clock import FakeClock
from support.collector import Collector, Span, collector
from support.scores import score
from support.site import Site
from support.waiting import wait_until

EDGE = "k" * 40
CAPTURED = 1_800_000_000.0


@dataclass(frozen=True)
class Still:
    seq: int
    camera: str = "gate"
    pts: float = 0.0
    captured: float = CAPTURED
    width: int = 64
    height: int = 48

    def rgb(self) -> NDArray[np.uint8]:
        return np.full((self.height, self.width, 3), self.seq, np.uint8)


class NoModels:
    """Stands for the updater of an edge that is offered nothing."""

    def outgoing(self) -> list[HardFrame]:
        return []

    def reopen(self) -> None:
        pass


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture
def traces(collecting: Collector) -> Traces:
    return Traces(collecting.endpoint, 1.0, "edge")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite", 64 << 20, "boot-1")
    yield spool
    spool.close()


def selected(seq: int, loss: float, held: bool) -> Selected:
    return Selected(Still(seq), Detections.empty(), score(loss), "hard", "gate-1", held, lambda _: None)  # type: ignore[arg-type]


def spans_of(collecting: Collector, traces: Traces) -> list[Span]:
    traces.close(20)
    return collecting.spans


def record(spool: Spool, traces: Traces, *items: Selected | WindowEnd) -> None:
    """Have a recorder, whose clock shows five seconds after the capture, take these items and end."""
    metrics = Metrics(CollectorRegistry(), "edge")
    traced = Traced(traces, EDGE)
    subject = Recorder(spool, metrics, FakeClock(CAPTURED + 5), Watchdog(), 16, 90, traced=traced)
    subject.start()
    for item in items:
        subject.end_window(item) if isinstance(item, WindowEnd) else subject.offer(item)
    assert subject.drain(10)


def test_a_frame_that_leaves_at_once_has_its_span_when_it_is_in_the_spool(
    collecting: Collector, traces: Traces, spool: Spool
) -> None:
    record(spool, traces, selected(1, 1.0, held=False))
    [span] = spans_of(collecting, traces)
    assert (span.name, span.trace, span.parent) == ("edge.forward", frame_id(EDGE, "boot-1", 1), "")
    assert (span.began, span.ended) == (CAPTURED, CAPTURED + 5)
    assert (span.about["culling.camera"], span.about["culling.reason"]) == ("gate", "hard")


def test_of_frames_that_are_held_only_those_that_leave_have_one(
    collecting: Collector, traces: Traces, spool: Spool
) -> None:
    held = [selected(seq, float(seq), held=True) for seq in (1, 2, 3)]
    record(spool, traces, *held, WindowEnd("gate", Released(1), CAPTURED, lambda _: None))
    [span] = spans_of(collecting, traces)
    assert span.trace == frame_id(EDGE, "boot-1", 3)
    assert span.about["culling.bytes"] == len(spool.ready(1)[0].jpeg)


def test_a_frame_of_an_earlier_start_keeps_its_trace(collecting: Collector, traces: Traces, spool: Spool) -> None:
    record(spool, traces, selected(1, 1.0, held=True))
    spool.close()
    again = Spool(spool._path, 64 << 20, "boot-2")
    [left] = again.release("gate", Released(1), CAPTURED)
    again.close()
    Traced(traces, EDGE).left("gate", [left], CAPTURED)
    [span] = spans_of(collecting, traces)
    assert span.trace == frame_id(EDGE, "boot-1", 1)


def test_a_span_of_sending_begins_with_the_first_attempt(collecting: Collector, traces: Traces, spool: Spool) -> None:
    record(spool, traces, selected(1, 1.0, held=False))
    [spooled] = spool.ready(1)
    traced = Traced(traces, EDGE)
    for at in (10.0, 20.0):
        traced.sent(("boot-1", 1), CAPTURED + at)
    traced.ended(spooled, CAPTURED + 21)
    [forward, send] = spans_of(collecting, traces)
    assert (send.name, send.trace, send.parent) == ("edge.send", forward.trace, forward.id)
    assert (send.began, send.ended) == (CAPTURED + 10, CAPTURED + 21)
    assert not traced._sent


def test_what_the_cloud_acks_and_what_it_refuses_for_ever_is_told(
    collecting: Collector, traces: Traces, tmp_path: Path, spool: Spool
) -> None:
    site = Site(tmp_path)
    cloud = site.cloud()
    for seq in (1, 2):
        add(spool, seq)
    metrics = Metrics(CollectorRegistry(), "edge")
    traced = Traced(traces, site.public)
    settings = load_settings(site.write(), {}).cloud
    subject = Forwarder(settings, "boot-1", spool, NoModels(), list, metrics, SystemClock(), Watchdog(), traced=traced)  # type: ignore[arg-type]
    subject.start()
    try:
        cloud.receive(HardFrame)
        frame, _ = cloud.receive(HardFrame, ack=False)
        cloud.send(Nack(frame.boot, frame.seq, "purged", retry=False))
        wait_until(lambda: spool.counts().ready == 0)
    finally:
        assert subject.finish(5)
        cloud.close()
    spans = {span.about["culling.frame"]: span for span in spans_of(collecting, traces)}
    names = [frame_id(site.public, "boot-1", seq) for seq in (1, 2)]
    assert [spans[name].failed for name in names] == ["", "purged"]
    assert {span.name for span in spans.values()} == {"edge.send"}


def add(spool: Spool, seq: int) -> None:
    spool.add(
        Still(seq),
        found=Detections.empty(),
        score=score(),
        reason="hard",
        model_id="gate-1",
        jpeg=b"jpeg",
        held=False,
    )
