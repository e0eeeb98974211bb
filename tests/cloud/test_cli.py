from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from culling.cloud.bill.cost import PassCost, StudentCost
from culling.cloud.bill.rates import Rates
from culling.cloud.control.actions import to_artefact
from culling.cloud.model.faster_rcnn.network import DetectorSpec, build
from culling.cloud.model.weights import save_weights
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.store.history import History
from culling.common.cli import main
from culling.common.graph import check
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.messages import SwapReport
from support import tiny
from support.cloud import CAMERA, CloudState, ServiceProcess, camera_state, hard_frame
from support.narrow import install

OFFERED = "is offered; live once the edge reports it"

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, schedule={"hold": True})
    state.enroll()
    state.publisher.publish(CAMERA, state.artefact(tag="a"), "base")
    yield state
    state.close()


def culling(cloud: CloudState, *arguments: str) -> int:
    return main(["cloud", *arguments, "--config", str(cloud.toml)])


def shown(cloud: CloudState, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what a command prints as JSON."""
    capsys.readouterr()
    assert culling(cloud, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_status_shows_every_camera(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.roster.heard(
        {CAMERA: camera_state(model_id="gate-1", seen=200, forwarded={"hard": 6, "audit": 4})}, time.time()
    )
    cloud.frames.add(EDGE, *hard_frame(1))
    lately = History(cloud.index, {CAMERA: camera_state(seen=100, forwarded={"hard": 5})})
    lately.record({CAMERA: camera_state(seen=200, forwarded={"hard": 6, "audit": 4})}, int(time.time() // 60) - 1)
    told = shown(cloud, capsys, "status")
    assert told["endpoint"] is None
    (row,) = told["cameras"]
    assert (row["camera"], row["edge"], row["state"], row["model"], row["live"]) == (
        "gate",
        "edge-1",
        "live",
        "gate-1",
        "gate-1",
    )
    assert (row["seen"], row["forwarded"], row["rate"], row["stored"]) == (200, 10, 0.05, 1)


def test_status_says_what_the_last_day_cost_beside_full_training(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = StudentCost(PassCost(1.0, 0.0), PassCost(3.0, 0.0))
    priced = msgspec.structs.replace(cloud.artefact(tag="b"), cost=cost)
    model = cloud.publisher.publish(CAMERA, priced, "manual").model_id
    cloud.frames.add(EDGE, *hard_frame(1))
    frame, _ = hard_frame(1)
    Rates(cloud.index).note("label", 1.0, 1.0, {(frame.height, frame.width): 80.0})
    past = History(cloud.index, {CAMERA: camera_state(seen=0, inferred=0)})
    past.record({CAMERA: camera_state(model_id=model, inferred=50)}, int(time.time() // 60) - 1)
    (row,) = shown(cloud, capsys, "status")["cameras"]
    assert row["bill"]["parts"]["edge"] == {"passes": 50, "gflops": 50.0, "seconds": None}
    assert (row["bill"]["full"]["gflops"], row["bill"]["ratio"]) == (50 * (80 + 40 * 3), 200.0)
    assert culling(cloud, "status") == 0
    assert "gate: 24 h cost 50 GFLOP: edge 50 GFLOP, cloud 0 GFLOP; 1/200 of full" in capsys.readouterr().out


def test_the_rate_of_a_status_is_that_of_the_last_minutes(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.roster.heard({CAMERA: camera_state(seen=200, forwarded={"hard": 6})}, time.time())
    lately = History(cloud.index, {CAMERA: camera_state(seen=0, forwarded={})})
    lately.record({CAMERA: camera_state(seen=200, forwarded={"hard": 6})}, int(time.time() // 60) - 7)
    (row,) = shown(cloud, capsys, "status")["cameras"]
    assert (row["forwarded"], row["rate"]) == (6, None)


def test_status_says_of_a_student_that_is_too_slow_what_it_takes_and_what_to_do(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    now = camera_state(seen=600, inferred=30, dropped={"newer": 570})
    cloud.roster.heard({CAMERA: now}, time.time())
    assert shown(cloud, capsys, "status")["cameras"][0]["keeping_up"] is None
    History(cloud.index, {CAMERA: camera_state(seen=0, inferred=0)}).record({CAMERA: now}, int(time.time() // 60) - 1)
    assert shown(cloud, capsys, "status")["cameras"][0]["keeping_up"]["told"] == "0.5 of 10 frames/s"
    assert culling(cloud, "status") == 0
    out = capsys.readouterr().out
    assert "0.5 of 10 frames/s" in out
    assert "gate: the student is too slow" in out
    assert "set the camera's max_fps to 0.5" in out


def test_status_of_a_camera_that_never_spoke_is_no_rate_of_zero(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = shown(cloud, capsys, "status")["cameras"]
    assert (row["state"], row["model"], row["silent_s"], row["rate"]) == ("unseen", None, None, None)
    assert culling(cloud, "status") == 0
    assert "%" not in capsys.readouterr().out


def test_status_of_an_edge_that_fell_silent_is_down(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    cloud.roster.heard({CAMERA: camera_state(seen=200, forwarded={"hard": 6})}, time.time() - 86_400)
    (row,) = shown(cloud, capsys, "status")["cameras"]
    assert (row["state"], row["rate"], round(row["silent_s"], -2)) == ("down", None, 86_400)
    assert culling(cloud, "status") == 0
    out = capsys.readouterr().out
    assert "24 h ago" in out
    assert "%" not in out


def test_status_says_what_a_camera_is_to_run_only_where_that_is_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    state = CloudState(tmp_path)
    state.enroll()
    assert culling(state, "status") == 0
    assert "offered" not in capsys.readouterr().out
    state.publisher.publish(CAMERA, state.artefact(tag="a"), "base")
    assert culling(state, "status") == 0
    assert "offered gate-1" in capsys.readouterr().out
    state.close()


def test_status_says_what_a_round_does_and_what_the_next_one_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = CloudState(tmp_path)
    state.enroll()
    (row,) = shown(state, capsys, "status")["cameras"]
    assert (row["round"], row["next_round"]["told"]) == (None, "waits for 0 of 32 labelled frames")
    turn = state.rounds.start(CAMERA, "manual", 1.0)
    (row,) = shown(state, capsys, "status")["cameras"]
    assert row["round"] == {"id": turn.id, "told": "running"}
    (state.data_dir / "rounds" / str(turn.id)).mkdir(parents=True)
    ProgressWriter(state.data_dir / "rounds" / str(turn.id), lambda: 1.0).stage("train")
    (row,) = shown(state, capsys, "status")["cameras"]
    assert row["round"]["told"] == "train"
    state.close()


def test_where_nothing_is_labelled_status_and_a_request_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = CloudState(tmp_path)
    state.enroll()
    for seq in range(1, 10):
        state.frames.add("e" * 40, *hard_frame(seq))
    (row,) = shown(state, capsys, "status")["cameras"]
    assert row["next_round"]["told"].endswith("9 more cannot be labelled: labelling.per_day is 0")
    assert culling(state, "rounds", CAMERA, "--start") == 0
    assert "with the labels that there are, since labelling.per_day is 0" in capsys.readouterr().out
    (row,) = shown(state, capsys, "status")["cameras"]
    assert row["next_round"] is None, "it starts, and is refused with the reason"
    state.close()


def test_tables_are_for_people(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert culling(cloud, "status") == 0
    out = capsys.readouterr().out
    assert "not running" in out
    assert "gate" in out
    assert culling(cloud, "rounds") == 0
    assert "no round yet" in capsys.readouterr().out
    cloud.rounds.start(CAMERA, "drift", 1.0)
    assert culling(cloud, "rounds") == 0
    assert "drift" in capsys.readouterr().out


def test_rounds_show_their_report_and_how_the_swap_went(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    turn = cloud.rounds.start(CAMERA, "new-frames", 100.0)
    cloud.rounds.end(turn.id, "ready", {"kept": 64, "scale": 0.81, "newest_capture": 1000.0}, "", None)
    model = cloud.publisher.publish_round(turn.id, CAMERA, cloud.artefact(tag="b"))
    cloud.registry.report(SwapReport(CAMERA, model.model_id, "gate-1", "live", "", 25.0, 1090.0), 1091.0)
    (row,) = shown(cloud, capsys, "rounds")
    assert (row["state"], row["kept"], row["scale"], row["model_id"]) == ("published", 64, 0.81, "gate-2")
    assert (row["swap"], row["swap_gap_ms"], row["model_lag_s"]) == ("live", 25.0, 90.0)
    cloud.enroll("yard", edge="edge-2")
    assert shown(cloud, capsys, "rounds", "yard") == []


def test_a_round_can_be_asked_for(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert culling(cloud, "rounds", CAMERA, "--start") == 0
    assert "when it starts" in capsys.readouterr().out
    assert [request.kind for request in cloud.requests.open()] == ["round"]


@pytest.mark.parametrize("command", [("rounds", "--start"), ("rounds",), ("rollback",), ("models",)])
def test_an_unknown_camera_is_named(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert culling(cloud, *command, "yard") == 3
    assert "no camera yard" in capsys.readouterr().err
    assert cloud.requests.open() == []


def test_publish_and_rollback_act_on_a_running_service(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "b.onnx").write_bytes(tiny.student(tag="b"))
    with ServiceProcess(cloud):
        assert culling(cloud, "publish", CAMERA, str(tmp_path / "b.onnx"), "--scale", "0.9") == 0
        assert f"gate-2 {OFFERED}" in capsys.readouterr().out
        assert cloud.registry.live()[CAMERA].artefact.scale == 0.9
        assert culling(cloud, "rollback", CAMERA) == 0
        assert f"gate-3 {OFFERED}" in capsys.readouterr().out
        assert culling(cloud, "rollback", CAMERA) == 1
        assert "no earlier model" in capsys.readouterr().err
    states = [(model.model_id, model.state) for model in cloud.registry.models(CAMERA)]
    assert states == [("gate-3", "live"), ("gate-2", "revoked"), ("gate-1", "retired")]


def test_what_is_published_brings_a_golden_frame_of_its_camera(cloud: CloudState, tmp_path: Path) -> None:
    (tmp_path / "b.onnx").write_bytes(tiny.student(tag="b"))
    for seq in range(1, 20):
        cloud.frames.add(EDGE, *hard_frame(seq))
    assert culling(cloud, "publish", CAMERA, str(tmp_path / "b.onnx")) == 0
    (request,) = cloud.requests.open()
    (golden,) = to_artefact(request.payload).golden
    assert decode_jpeg(golden.jpeg).shape == (48, 64, 3)


def test_publish_waits_for_a_service_that_is_down(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "b.onnx").write_bytes(tiny.student(tag="b"))
    assert culling(cloud, "publish", CAMERA, str(tmp_path / "b.onnx")) == 0
    assert "not running" in capsys.readouterr().out
    assert [request.kind for request in cloud.requests.open()] == ["publish"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not ONNX"), (tiny.foreign(), "foreign domain"), (None, "cannot be read")]
)
def test_what_is_no_student_is_not_published(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "b.onnx").write_bytes(content)
    assert culling(cloud, "publish", CAMERA, str(tmp_path / "b.onnx")) == 5
    err = capsys.readouterr().err
    assert message in err
    assert "b.onnx" in err
    assert len(err.strip().splitlines()) == 1
    assert cloud.requests.open() == []


def test_a_teacher_is_not_published(cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_weights(tmp_path / "t.safetensors", build(DetectorSpec(50, 16, 24, 10)), "fp16")
    assert culling(cloud, "publish", CAMERA, str(tmp_path / "t.safetensors")) == 5
    assert capsys.readouterr().err.endswith("t.safetensors: holds a teacher's weights; a student's are needed\n")


def test_a_student_of_other_classes_is_not_published(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "b.onnx").write_bytes(tiny.student(classes=("cat", "dog")))
    assert culling(cloud, "publish", CAMERA, str(tmp_path / "b.onnx")) == 5
    assert "finds cat, dog; gate looks for person, bicycle" in capsys.readouterr().err


def test_an_edge_can_be_revoked(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert culling(cloud, "revoke", "edge-1") == 0
    assert cloud.roster.rows()[0].revoked
    assert shown(cloud, capsys, "status")["cameras"][0]["state"] == "revoked"
    assert culling(cloud, "revoke", "edge-9") == 3


def test_enroll_prints_what_to_do_next(tmp_path: Path, narrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = CloudState(tmp_path, student={"weights": str(narrow / "student.safetensors")})
    install(narrow, state.data_dir)
    out = tmp_path / "kit"
    endpoint = ["--endpoint", "tcp://cloud.example:5577"]
    assert culling(state, "enroll", "edge-1", "gate", "yard", "--out", str(out), *endpoint) == 0
    printed = capsys.readouterr().out
    assert "culling edge check && culling edge run" in printed
    assert {path.name for path in out.iterdir()} == {
        "edge.toml",
        "student.onnx",
        "student.gate.manifest",
        "student.yard.manifest",
    }
    check((out / "student.onnx").read_bytes())
    secret = (out / "edge.toml").read_text().split('secret_key = "')[1].split('"')[0]
    assert secret not in printed
    state.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "round.kept=many"), "round.kept"),
        (("--set", "kept"), "KEY=VALUE"),
        (("--set", "round.size=1"), "round.size"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_two(
    cloud: CloudState, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert culling(cloud, "status", *arguments) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_second_service_on_one_folder_says_so(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    with ServiceProcess(cloud):
        assert culling(cloud, "serve") == 7
    assert "another service" in capsys.readouterr().err


def test_keys_are_told_as_edges_are_to_write_them(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert culling(cloud, "keys") == 0
    told = tomllib.loads(capsys.readouterr().out)
    assert told == {"server_key": cloud.keys.curve_public, "signing_keys": [cloud.keys.signing_public]}
