from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.upkeep import UPKEEP_S, Upkeep
from culling.common.metrics import ALL, Metrics
from support.clock import FakeClock
from support.cloud import CloudState


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=1000.0)


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    state = CloudState(tmp_path, clock)
    yield state
    state.close()


def upkeep(cloud: CloudState, metrics: Metrics) -> Upkeep:
    return Upkeep(cloud.settings, cloud.index, cloud.frames, cloud.files, metrics, cloud.clock)


def pass_turn(kept: Upkeep) -> None:
    for step in kept.steps:
        step()


def test_each_camera_has_its_last_round_or_waits_since_it_was_enrolled(cloud: CloudState) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    cloud.enroll("gate", "yard")
    cloud.rounds.end(cloud.rounds.start("yard", "manual", 1.0).id, "failed", {}, "why", 5.0)
    pass_turn(upkeep(cloud, metrics))
    assert metrics.by("camera", "last_round_time") == {"gate": 1000.0, "yard": 5.0}


def test_of_many_cameras_the_last_round_of_any_is_told(cloud: CloudState, clock: FakeClock) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud", merged=True)
    cloud.enroll("gate", "yard", "ramp")
    kept = upkeep(cloud, metrics)
    pass_turn(kept)
    assert metrics.by("camera", "last_round_time") == {ALL: 1000.0}, "all wait since they were enrolled"
    for camera, finished in (("gate", 7.0), ("yard", 5.0)):
        cloud.rounds.end(cloud.rounds.start(camera, "manual", 1.0).id, "failed", {}, "why", finished)
    clock.advance(UPKEEP_S)
    pass_turn(kept)
    assert metrics.by("camera", "last_round_time") == {ALL: 7.0}, "a new edge is no round"
