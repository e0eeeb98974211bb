from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from culling.common.errors import InputError
from culling.common.metrics import Metrics
from culling.common.process.health import HealthServer
from culling.edge.status import fetch, rows
from support.site import free_port


@pytest.fixture
def metrics() -> Iterator[tuple[Metrics, int]]:
    registry = CollectorRegistry()
    metrics = Metrics(registry, "edge")
    server = HealthServer("127.0.0.1", 0, registry, lambda: (True, "detecting"))
    yield metrics, server.port
    server.close()


def test_each_camera_gets_a_row_of_its_own(metrics: tuple[Metrics, int]) -> None:
    counts, port = metrics
    for camera, state in (("yard", "connecting"), ("gate", "live")):
        counts.set("camera_state", 1, camera=camera, state=state)
    counts.count("frames_seen", 200, camera="gate")
    counts.count("frames_inferred", 100, camera="gate")
    counts.count("frames_forwarded", 3, camera="gate", reason="hard")
    counts.count("frames_forwarded", 1, camera="gate", reason="audit")
    counts.count("frames_dropped", 100, camera="gate", stage="camera", reason="newer")
    for loss in (1.0, 2.0):
        counts.observe("confidence_loss", loss, camera="gate")

    gate, yard = rows(fetch("127.0.0.1", port))

    assert (gate["camera"], gate["state"]) == ("gate", "live")
    assert (gate["seen"], gate["inferred"], gate["dropped"]) == (200, 100, 100)
    assert (gate["forwarded"], gate["rate"]) == (4, 0.02)
    assert gate["loss"] == 0.03
    assert (yard["camera"], yard["state"], yard["rate"]) == ("yard", "connecting", None)


def test_an_agent_without_cameras_has_no_rows(metrics: tuple[Metrics, int]) -> None:
    assert rows(fetch("127.0.0.1", metrics[1])) == []


def test_nobody_there_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="is `culling edge run` running"):
        fetch("127.0.0.1", free_port())


def test_an_agent_is_asked_over_ipv6_too() -> None:
    server = HealthServer("::1", 0, CollectorRegistry(), lambda: (True, "detecting"))
    try:
        assert rows(fetch("::1", server.port)) == []
    finally:
        server.close()


@pytest.mark.parametrize("link", ["refused", "incompatible", "connected"])
def test_the_link_is_told_in_a_word(metrics: tuple[Metrics, int], link: str) -> None:
    counts, port = metrics
    counts.set("camera_state", 1, camera="gate", state="live")
    assert rows(fetch("127.0.0.1", port))[0]["cloud"] == "away"
    counts.set(link, 1)
    assert rows(fetch("127.0.0.1", port))[0]["cloud"] == link
