from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.common.cli import main
from support.cloud import CAMERA, CloudState, ServiceProcess, camera_state
from support.waiting import wait_until

OFFERED = "is offered; live once the edge reports it"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, schedule={"hold": True})
    state.enroll()
    for tag in "ab":
        state.publisher.publish(CAMERA, state.artefact(tag=tag), "round")
    yield state
    state.close()


def culling(cloud: CloudState, *arguments: str) -> int:
    return main(["cloud", *arguments, "--config", str(cloud.toml)])


def test_every_request_is_a_command(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    with ServiceProcess(cloud):
        for command in (["pause"], ["hold"], ["budget", "12"], ["pin"], ["frame"]):
            assert culling(cloud, command[0], CAMERA, *command[1:]) == 0
        told = capsys.readouterr().out.splitlines()
        desired = DesiredStates(cloud.index).all()[CAMERA]
        assert (desired.held, desired.pinned, desired.paused, desired.frames_per_window) == (True, "gate-2", True, 12)
        assert desired.frame is not None
        assert told[0] == "gate will stop forwarding frames"
        assert culling(cloud, "rollback", CAMERA) == 1
        assert "pinned to gate-2" in capsys.readouterr().err
        for name in ("unpin", "unhold", "resume", "budget"):
            assert culling(cloud, name, CAMERA) == 0
        assert DesiredStates(cloud.index).all()[CAMERA] == DesiredState(frame=desired.frame)
        assert culling(cloud, "rollback", CAMERA) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"gate-3 {OFFERED}"


def test_what_is_asked_of_a_service_that_is_down_waits(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert culling(cloud, "pause", CAMERA) == 0
    assert "will carry it out when it starts" in capsys.readouterr().out
    assert [request.kind for request in cloud.requests.open()] == ["pause"]


@pytest.mark.parametrize(("command", "code"), [(["pause", "yard"], 3), (["budget", CAMERA, "0"], 3)])
def test_what_makes_no_sense_is_one_line(
    cloud: CloudState, command: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert culling(cloud, *command) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_models_of_a_camera_are_listed_newest_first(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.roster.heard({CAMERA: camera_state(model_id="gate-1")}, 5.0)
    assert culling(cloud, "models", CAMERA, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model_id"], row["state"], row["runs"]) for row in rows] == [
        ("gate-2", "live", False),
        ("gate-1", "previous", True),
    ]


def test_a_model_is_written_for_a_stick_with_its_signed_manifest(
    cloud: CloudState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert culling(cloud, "export-model", CAMERA, "--out", str(tmp_path / "stick")) == 0
    assert "culling edge install" in capsys.readouterr().out
    live = cloud.registry.live()[CAMERA]
    assert (tmp_path / "stick" / f"{live.model_id}.manifest").read_bytes() == live.manifest
    model = (tmp_path / "stick" / f"{live.model_id}.onnx").read_bytes()
    assert hashlib.sha256(model).hexdigest() == live.artefact.sha256
    assert culling(cloud, "export-model", CAMERA, "--out", str(tmp_path / "stick"), "--model", "gate-2") == 0
    assert culling(cloud, "export-model", CAMERA, "--out", str(tmp_path / "stick"), "--model", "gate-9") == 3
    assert "no live or previous model gate-9: see `culling cloud models gate`" in capsys.readouterr().err


def test_what_a_camera_looks_for_is_shown_and_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = CloudState(tmp_path, classes={"shop": {"names": ["bottle", "person"], "from": {"bottle": ["car"]}}})
    cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    capsys.readouterr()
    told = shown(cloud, capsys).splitlines()
    assert told[0] == "gate looks for person, bicycle, car, motorcycle, bus, truck (set default, by the settings)"
    assert told[-1] == "set shop: bottle, person"
    assert culling(cloud, "classes", CAMERA, "shp") == 3
    assert "no set is called shp: there are default, shop" in capsys.readouterr().err
    assert culling(cloud, "classes", CAMERA, "shop") == 0
    assert [(request.kind, request.payload) for request in cloud.requests.open()] == [("classes", {"classes": "shop"})]
    with ServiceProcess(cloud):
        wait_until(lambda: not cloud.requests.open())
        capsys.readouterr()
        wait_until(lambda: "labels are still read" not in shown(cloud, capsys), rest_s=0.2)  # a whole command each
    told = shown(cloud, capsys).splitlines()
    assert told[0] == "gate looks for bottle, person (set shop, by command)"
    assert "the next round changes that: new is bottle; see `culling cloud rounds`" in told
    assert culling(cloud, "classes", CAMERA, "shop", "--reset") == 3
    cloud.close()


def shown(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> str:
    assert culling(cloud, "classes", CAMERA) == 0
    return capsys.readouterr().out
