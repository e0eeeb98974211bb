from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from culling.common.cli import main
from culling.common.wire.manifest import Trust, key_id, verify, verify_model
from culling.common.wire.messages import Ack, Nack
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, hard_frame, hello
from support.narrow import install
from support.scrape import Scrape


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    student = {"weights": str(narrow / "student.safetensors")}
    state = CloudState(tmp_path, student=student, schedule={"hold": True})
    install(narrow, state.data_dir)
    yield state
    state.close()


def culling(cloud: CloudState, *arguments: str) -> int:
    return main(["cloud", *arguments, "--config", str(cloud.toml)])


def owned(cloud: CloudState) -> dict[str, str]:
    return {row.name: row.edge for row in cloud.roster.rows()}


def check_folder(cloud: CloudState, folder: Path, camera: str) -> None:
    public = cloud.keys.signing.public_key()
    trust = Trust({key_id(public): public}, camera)
    manifest = verify((folder / f"student.{camera}.manifest").read_bytes(), trust, cloud.clock.now())
    verify_model(manifest, (folder / "student.onnx").read_bytes())
    assert [one["name"] for one in tomllib.loads((folder / "camera.toml").read_text())["camera"]] == [camera]


def test_a_camera_is_added_moved_and_removed_without_enrolling_again(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.enroll(CAMERA)
    cloud.enroll("dock", edge="edge-2")
    out = cloud.folder / "kit"
    assert culling(cloud, "camera", "add", "yard", "--edge", "edge-1", "--out", str(out)) == 0
    assert "[[camera]]" in capsys.readouterr().out
    check_folder(cloud, out, "yard")
    assert cloud.registry.live()["yard"].origin == "base"
    moved = cloud.folder / "moved"
    assert culling(cloud, "camera", "move", "yard", "--edge", "edge-2", "--out", str(moved)) == 0
    check_folder(cloud, moved, "yard")
    assert owned(cloud) == {CAMERA: "edge-1", "dock": "edge-2", "yard": "edge-2"}
    assert culling(cloud, "camera", "remove", "yard") == 0
    assert owned(cloud) == {CAMERA: "edge-1", "dock": "edge-2"}
    assert culling(cloud, "camera", "add", "yard", "--edge", "edge-1", "--out", str(out)) == 0
    assert owned(cloud)["yard"] == "edge-1"


def test_a_camera_begins_with_the_student_that_its_edge_has_whatever_the_settings_say_by_now(cloud: CloudState) -> None:
    cloud.enroll(CAMERA)
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    out = cloud.folder / "kit"
    assert culling(cloud, "camera", "add", "yard", "--edge", "edge-1", "--out", str(out)) == 0
    check_folder(cloud, out, "yard")
    live = cloud.registry.live()
    assert live["yard"].artefact.sha256 == live[CAMERA].artefact.sha256
    assert (out / "student.onnx").read_bytes() == cloud.files.read(live[CAMERA].artefact.sha256)


def test_a_camera_that_began_with_another_student_is_not_moved_to_an_edge_that_has_one_file_for_all(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.enroll(CAMERA)
    cloud.enroll("dock", edge="edge-2")
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    cloud.publisher.publish("dock", cloud.artefact(tag="another"), "base")
    assert culling(cloud, "camera", "move", CAMERA, "--edge", "edge-2", "--out", str(cloud.folder / "kit")) == 2
    assert "enroll a second edge on that machine for this camera" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["add", CAMERA, "--edge", "edge-1"], 2),
        (["add", "yard", "--edge", "edge-9"], 2),
        (["add", "../yard", "--edge", "edge-1"], 2),
        (["move", "yard", "--edge", "edge-1"], 2),
        (["move", CAMERA, "--edge", "edge-1"], 2),
        (["remove", "yard"], 3),
        (["purge", "yard", "--all"], 3),
        (["purge", CAMERA], 2),
        (["purge", CAMERA, "--before", "yesterday"], 3),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(
    cloud: CloudState, words: list[str], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cloud.folder)
    cloud.enroll(CAMERA)
    before = sorted(cloud.folder.iterdir())
    assert culling(cloud, "camera", *words) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert owned(cloud) == {CAMERA: "edge-1"}
    assert sorted(cloud.folder.iterdir()) == before


def test_a_camera_is_removed_and_purged_while_the_service_runs_and_its_frames_are_refused(cloud: CloudState) -> None:
    secret = cloud.enroll(CAMERA, "yard")
    with ServiceProcess(cloud) as service:
        edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
        try:
            edge.send(hello())
            for seq, camera in ((1, CAMERA), (2, "yard")):
                frame, jpeg = hard_frame(seq, camera)
                assert edge.ask(frame, Ack, payload=jpeg).seq == seq
            assert culling(cloud, "camera", "remove", CAMERA, "--purge") == 0
            assert set(cloud.frames.counts()) == {"yard"}
            frame, jpeg = hard_frame(3)
            nack = edge.ask(frame, Nack, payload=jpeg)
            assert (nack.seq, nack.reason, nack.retry) == (3, "camera-removed", False)
            frame, jpeg = hard_frame(4, "yard")
            assert edge.ask(frame, Ack, payload=jpeg).seq == 4
        finally:
            edge.close()
        metrics = (cloud.data_dir / "metrics").read_text().strip()
        assert Scrape(metrics).sum("frames_refused_total", reason="camera-removed") == 1
    assert [path.parent.name for path in cloud.data_dir.rglob("*.jpg")] == ["yard", "yard"]
    audit = [json.loads(line) for line in (cloud.data_dir / "audit.log").read_text().splitlines()]
    assert [line["event"] for line in audit] == ["camera_removed", "camera_purge_began", "camera_purged"]
    assert audit[-1]["rows"] == 1


def test_a_frame_that_was_purged_is_answered_when_it_comes_again_and_not_stored(cloud: CloudState) -> None:
    secret = cloud.enroll(CAMERA)
    then = time.time() - 100
    with ServiceProcess(cloud) as service:
        edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
        try:
            edge.send(hello())
            early, late, unsent = (hard_frame(seq, captured=then + 10 * seq) for seq in (1, 5, 2))
            for frame, jpeg in (early, late):
                assert edge.ask(frame, Ack, payload=jpeg).seq == frame.seq
            before = datetime.fromtimestamp(then + 30, UTC).isoformat()
            assert culling(cloud, "camera", "purge", CAMERA, "--before", before) == 0
            assert cloud.frames.counts()[CAMERA].stored == 1, "the later one stays"

            frame, jpeg = early  # once more, as when its edge never heard the first answer
            assert edge.ask(frame, Ack, payload=jpeg).seq == 1
            frame, jpeg = unsent  # from the spool
            nack = edge.ask(frame, Nack, payload=jpeg)
            assert (nack.seq, nack.reason, nack.retry) == (2, "purged", False)
            assert cloud.frames.counts()[CAMERA].stored == 1
            assert len(list((cloud.data_dir / "frames" / CAMERA).iterdir())) == 1
        finally:
            edge.close()
