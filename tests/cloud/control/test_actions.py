from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.control import actions
from culling.cloud.control.actions import carry_out
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.common.errors import CullingError, InputError
from support.cloud import CAMERA, CloudState

OFFERED = "is offered; live once the edge reports it"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll()
    for tag in "ab":
        state.publisher.publish(CAMERA, state.artefact(tag=tag), "round")
    yield state
    state.close()


def do(cloud: CloudState, kind: Any, **payload: Any) -> str:
    """Ask, and carry out, as the service does."""
    number = actions.ask(cloud.index, kind, CAMERA, 5.0, payload)
    (request,) = [request for request in cloud.requests.open() if request.id == number]
    try:
        return carry_out(request, cloud.index, cloud.publisher)
    finally:
        cloud.requests.answer(number, "", False, 6.0)


def desired(cloud: CloudState) -> DesiredState:
    return DesiredStates(cloud.index).all().get(CAMERA, DesiredState())


def test_what_is_wanted_stays_wanted_until_told_otherwise(cloud: CloudState) -> None:
    do(cloud, "pause")
    do(cloud, "hold")
    do(cloud, "budget", frames_per_window=12)
    assert desired(cloud) == DesiredState(held=True, paused=True, frames_per_window=12)
    do(cloud, "resume")
    do(cloud, "unhold")
    do(cloud, "budget")
    assert desired(cloud) == DesiredState()


def test_a_frame_is_asked_for_under_the_number_of_its_request(cloud: CloudState) -> None:
    do(cloud, "frame")
    number = cloud.requests.ask("unpin", CAMERA, 5.0) - 1
    assert desired(cloud) == DesiredState(frame=number)


def test_a_pinned_camera_takes_no_other_model(cloud: CloudState) -> None:
    assert do(cloud, "pin") == "gate is pinned to gate-2"
    for kind in ("rollback", "publish"):
        with pytest.raises(InputError, match="pinned to gate-2"):
            do(cloud, kind, model_id="gate-1")
    do(cloud, "unpin")
    assert do(cloud, "rollback") == f"gate-3 {OFFERED}"


def test_pinning_an_earlier_model_makes_it_live_first(cloud: CloudState) -> None:
    assert do(cloud, "pin", model_id="gate-1") == "gate is pinned to gate-3"
    live, *_, first = cloud.registry.models(CAMERA)
    assert live.artefact.sha256 == first.artefact.sha256


def test_a_model_of_the_cameras_own_can_be_published_again_by_name(cloud: CloudState) -> None:
    assert do(cloud, "publish", model_id="gate-1") == f"gate-3 {OFFERED}"
    with pytest.raises(InputError, match="never had a model yard-9"):
        do(cloud, "publish", model_id="yard-9")
    cloud.files.path(cloud.registry.models(CAMERA)[1].artefact.sha256, "onnx").unlink()
    for kind in ("publish", "pin"):
        with pytest.raises(InputError, match="the file of gate-2 is no longer stored"):
            do(cloud, kind, model_id="gate-2")


@pytest.mark.parametrize("renewed", [False, True])
def test_a_model_that_was_gone_back_from_is_refused_with_when_that_was(cloud: CloudState, renewed: bool) -> None:
    if renewed:
        do(cloud, "renew")  # gate-3, of the bytes of gate-2
        cloud.publisher.publish(CAMERA, cloud.artefact(tag="c"), "round")
        assert do(cloud, "publish", model_id="gate-2").startswith("gate-5")
    do(cloud, "rollback")
    for kind in ("publish", "pin"):
        with pytest.raises(
            InputError, match=r"gate-2 was gone back from at \d\d \w+ \d\d:\d\d, and is never used again"
        ):
            do(cloud, kind, model_id="gate-2")
    assert do(cloud, "publish", model_id="gate-1").endswith(OFFERED), "any other one may be"


def test_only_the_model_that_an_edge_could_not_take_is_signed_anew(cloud: CloudState) -> None:
    assert do(cloud, "renew", model_id="gate-1") == "gate-1 is not live any more: it is not signed anew"
    assert cloud.registry.live_ids()[CAMERA] == "gate-2"
    assert do(cloud, "renew", model_id="gate-2") == f"gate-3 {OFFERED}"


def test_a_shadow_that_an_edge_could_not_take_is_signed_anew_alone(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="c"), "round", shadow=lambda connection: True)
    assert do(cloud, "renew", model_id="gate-3") == "gate-4 runs beside the live model first: see `culling cloud waves`"
    assert {model.model_id: model.state for model in cloud.registry.models(CAMERA)} == {
        "gate-4": "shadow",
        "gate-3": "retired",
        "gate-2": "live",
        "gate-1": "previous",
    }
    assert do(cloud, "renew", model_id="gate-3") == "gate-3 is not live any more: it is not signed anew"


def test_a_model_that_a_gate_took_back_is_refused_by_that_reason(cloud: CloudState) -> None:
    cloud.registry.withdraw(CAMERA, "gate-2", "revoked")
    with pytest.raises(InputError, match="gate-2 was taken back: a gate found it no better"):
        do(cloud, "publish", model_id="gate-2")


@pytest.mark.parametrize(
    ("kind", "camera", "payload"),
    [
        ("pause", "yard", {}),
        ("budget", CAMERA, {"frames_per_window": 0}),
        ("budget", CAMERA, {"frames_per_window": 10**9}),
        ("budget", CAMERA, {"frames": 3}),
        ("frame", CAMERA, {"camera": "yard"}),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_is_entered(
    cloud: CloudState, kind: Any, camera: str, payload: dict[str, Any]
) -> None:
    with pytest.raises(CullingError):
        actions.ask(cloud.index, kind, camera, 5.0, payload)
    assert cloud.requests.open() == []


def test_a_withdrawn_model_of_a_pinned_camera_stays(cloud: CloudState) -> None:
    live = cloud.registry.live()[CAMERA].model_id
    DesiredStates(cloud.index).change(CAMERA, pinned=live)
    cloud.requests.ask("rollback", CAMERA, 5.0, {"withdrawn": live, "back_to": "gate-1"})
    (request,) = cloud.requests.open()
    with pytest.raises(InputError, match="pinned"):
        carry_out(request, cloud.index, cloud.publisher)
    assert cloud.registry.live()[CAMERA].model_id == live
