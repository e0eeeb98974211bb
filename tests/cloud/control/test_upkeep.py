from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.upkeep import STEER_S, UPKEEP_S, Upkeep
from culling.cloud.store.desired import DesiredState, DesiredStates, Paced
from culling.cloud.store.features.features import Kept, feature_store
from culling.common.clock import DAY_S
from culling.common.metrics import ALL, Metrics
from culling.common.wire.protocol import frame_id
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state, hard_frame


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


def test_a_camera_that_is_new_or_steered_anew_waits_for_seconds_only(cloud: CloudState, clock: FakeClock) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    kept = upkeep(cloud, metrics)
    pass_turn(kept)
    cloud.enroll()
    states = DesiredStates(cloud.index)
    states.take_pace(CAMERA, Paced(0.5), 1000.0)
    pass_turn(kept)
    assert metrics.by("camera", "pace") == {}, "not in every turn"
    clock.advance(STEER_S)
    pass_turn(kept)
    assert states.all()[CAMERA] == DesiredState(), "[pace] is off: nobody judges it any more"
    clock.advance(STEER_S)
    pass_turn(kept)
    assert metrics.by("camera", "pace") == {CAMERA: 1.0}


@pytest.mark.parametrize("revoked", [False, True])
def test_a_camera_that_is_gone_leaves_no_series_behind(cloud: CloudState, clock: FakeClock, revoked: bool) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    cloud.enroll("gate", edge="edge-1")
    cloud.enroll("yard", edge="edge-2")
    cloud.roster.heard({name: camera_state(name) for name in ("gate", "yard")}, clock.now())
    kept = upkeep(cloud, metrics)
    for _ in range(2):  # one camera is measured each minute
        pass_turn(kept)
        clock.advance(UPKEEP_S)
    told = ["measured_accuracy", "wrong_records", "pace", "profile_looks", "last_round_time"]
    assert [sorted(metrics.by("camera", name)) for name in told] == [["gate", "yard"]] * len(told)
    if revoked:
        cloud.roster.revoke("edge-1")
        told.remove("last_round_time")  # its rounds are shown as long as the edge is known
    else:
        cloud.roster.remove("gate", clock.now())
    pass_turn(kept)
    assert [sorted(metrics.by("camera", name)) for name in told] == [["yard"]] * len(told)


def test_the_files_of_the_zoo_stay_until_the_disk_is_short(
    cloud: CloudState, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.settings = cloud.settings.model_copy(
        update={
            "round": cloud.settings.round.model_copy(update={"zoo": 2}),
            "service": cloud.settings.service.model_copy(update={"reserve_bytes": 10}),
        }
    )
    files = {}
    for tag in ("base", "a", "b", "c", "d"):
        weights = cloud.files.add(tag.encode(), "safetensors")
        made = msgspec.structs.replace(cloud.artefact(tag=tag), weights=weights)
        cloud.publisher.publish(CAMERA, made, "base" if tag == "base" else "round")
        files[tag] = {cloud.files.path(made.sha256, "onnx"), cloud.files.path(weights, "safetensors")}
        clock.advance(3600.0)
    for path in set().union(*files.values()):
        os.utime(path, (0, 0))
    clock.advance(2 * DAY_S)

    def kept(free: int) -> list[str]:
        monkeypatch.setattr("culling.cloud.control.upkeep.free_bytes", lambda _: free)
        pass_turn(upkeep(cloud, Metrics(CollectorRegistry(), "cloud")))
        return [tag for tag, paths in files.items() if all(path.exists() for path in paths)]

    assert kept(free=100) == ["base", "b", "c", "d"], "the live one, the one before it, and one of the zoo"
    assert kept(free=0) == ["base", "c", "d"]


def test_features_beyond_their_allowance_are_given_up_and_counted(tmp_path: Path, clock: FakeClock) -> None:
    state = CloudState(tmp_path, clock, store={"features_bytes": 250}, round={"distil": True})
    metrics = Metrics(CollectorRegistry(), "cloud")
    state.enroll()
    store = feature_store(state.settings, state.index)
    for seq in (1, 2, 3):
        state.frames.add("e" * 40, *hard_frame(seq))
        name = frame_id("e" * 40, "boot-1", seq)
        store.keep([Kept(name, CAMERA, "t" * 64, bytes(100), float(seq))])
    pass_turn(upkeep(state, metrics))
    assert metrics.by("reason", "features_dropped", camera=CAMERA) == {"allowance": 1}
    assert not store.find([frame_id("e" * 40, "boot-1", 1)])
    state.settings = state.settings.model_copy(
        update={"round": state.settings.round.model_copy(update={"distil": False})}
    )
    pass_turn(upkeep(state, metrics))
    assert metrics.total("features_dropped", camera=CAMERA) == 3, "nobody wants them any more"
    state.close()
