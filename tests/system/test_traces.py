"""One frame, one trace: a real agent and a real ingest, each with the real exporter, and a real collector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from culling.cloud.link.ingest import Ingest
from culling.cloud.store.index import frames
from culling.common.metrics import Metrics
from culling.common.traces.settings import open_traces
from support.cloud import CloudState, ServiceProcess
from support.collector import Collector, collector
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


def edge_of(cloud: CloudState, folder: Path, endpoint: str, traces: str) -> Site:
    """Return an edge of that cloud whose camera plays a clip once; the agent ends with it."""
    site = Site(folder, endpoint)
    site.secret = site.settings["cloud"]["secret_key"] = cloud.enroll()
    site.settings["cloud"]["server_key"] = cloud.keys.curve_public
    site.settings["agent"]["exit_when_done"] = True
    site.settings["selector"] = {"window_s": 600.0, "spacing_s": 0.0, "frames_per_window": 20}
    site.settings["camera"][0] |= {"pace": "max"}
    site.settings["traces"] = {"endpoint": traces}
    site.install_student()
    moving_clip(folder / "clip.mp4")
    return site


def stored_in(cloud: CloudState) -> set[str]:
    with cloud.index.read() as connection:
        return set(connection.execute(sa.select(frames.c.id)).scalars())


def test_spans_of_both_sides_are_of_one_trace_named_as_the_stored_frame(tmp_path: Path, collecting: Collector) -> None:
    cloud = CloudState(tmp_path, traces={"endpoint": collecting.endpoint})
    with ServiceProcess(cloud) as service:
        site = edge_of(cloud, tmp_path, service.endpoint, collecting.endpoint)
        agent = site.start()
        assert agent.wait(60) == 0, site.log()
        assert service.terminate() == 0
    stored = stored_in(cloud)
    cloud.close()
    site.close()
    forwarded, sent, kept = (
        {span.trace: span for span in collecting.named(name)} for name in ("edge.forward", "edge.send", "cloud.store")
    )
    assert stored
    assert kept.keys() == sent.keys() == stored
    assert stored <= forwarded.keys()
    for trace in stored:
        assert (forwarded[trace].service, kept[trace].service) == ("culling-edge", "culling-cloud")
        assert sent[trace].parent == kept[trace].parent == forwarded[trace].id
        # When a frame of a file was captured goes by the file, which plays faster than the clock here.
        assert sent[trace].began <= kept[trace].ended <= sent[trace].ended
        assert kept[trace].about["culling.reason"] == forwarded[trace].about["culling.reason"]


def test_with_a_dead_collector_every_frame_arrives_and_it_is_said_once(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    cloud = CloudState(tmp_path, traces={"endpoint": dead})
    metrics = Metrics(CollectorRegistry(), "cloud")
    traces = open_traces(cloud.settings.traces, "cloud", metrics)
    keys, clock = cloud.keys, cloud.clock
    ingest = Ingest(
        cloud.settings, keys.curve_secret, cloud.index, cloud.frames, cloud.files, metrics, clock, traces=traces
    )
    ingest.start()
    site = edge_of(cloud, tmp_path, ingest.endpoint, dead)
    agent = site.start()
    assert agent.wait(60) == 0, site.log()
    stored = len(stored_in(cloud))
    assert stored == metrics.total("frames_stored") > 0
    wait_until(lambda: metrics.by("reason", "spans_dropped")["not-delivered"] == stored)
    ingest.stop()
    assert traces is not None
    traces.close()
    cloud.close()
    site.close()
    assert site.log().count("traces_failing") <= 1
    assert site.log().count("spans_dropped") + site.log().count("traces_failing") >= 1
    assert "opentelemetry" not in site.log()
