"""Students that run beside the one in use before they take its place, with a real service and a real agent."""

from __future__ import annotations

import base64
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from culling.cloud.store.index import frames, models
from culling.cloud.store.lifecycle import enter_labels
from culling.cloud.store.people.deeds import Deeds
from culling.cloud.store.waves.trials import Trial, Trials
from culling.common.cli import main
from culling.common.frame import Detections
from culling.common.wire.messages import WireDetections, from_wire
from support import tiny
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.site import Site, moving_clip
from support.waiting import LONG_S, wait_until

AUDITS = 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    moving_clip(tmp_path / "clip.mp4", frames=50)
    made = Site(tmp_path)
    made.settings["camera"][0]["loop"] = True
    made.settings["selector"] = {"frames_per_window": 8, "window_s": 1.0, "audit_share": 0.5, "bootstrap": 0}
    made.settings["difference"] = {"skip": False}
    yield made
    made.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    waves = {"shadow": 0.5, "audits": AUDITS, "waves": [0.5, 1.0]}
    settings = {"waves": waves, "schedule": {"hold": True}, "publish": {"reoffer_s": 1.0}}
    made = CloudState(tmp_path, **settings)
    yield made
    made.close()


def begin(site: Site, cloud: CloudState, service: ServiceProcess, *cameras: str) -> None:
    """Start an agent that runs its cameras' base student."""
    cameras = cameras or (CAMERA,)
    site.signing = cloud.keys.signing
    site.settings["cloud"] |= {
        "endpoint": service.endpoint,
        "server_key": cloud.keys.curve_public,
        "secret_key": cloud.enroll(*cameras),
        "signing_keys": [base64.b64encode(site.signing.public_key().public_bytes_raw()).decode()],
    }
    (camera,) = site.settings["camera"]
    site.settings["camera"] = [{**camera, "name": name} for name in cameras]
    for name in cameras:
        cloud.publisher.publish(name, cloud.artefact(), "base")
        site.install_student(name)
    site.start()
    wait_until(lambda: all(heard(cloud, name) == (f"{name}-1", "") for name in cameras), LONG_S)


def heard(cloud: CloudState, camera: str = CAMERA) -> tuple[str, str | None] | None:
    """Return which model a camera runs, and which one beside it, as its edge last said."""
    (row,) = [row for row in cloud.roster.rows() if row.name == camera]
    return None if row.state is None else (row.state.model_id, row.state.shadow)


def kept(cloud: CloudState, service: ServiceProcess) -> None:
    """Have the next service listen where this one did."""
    cloud.toml.write_text(cloud.toml.read_text().replace("tcp://127.0.0.1:0", service.endpoint))


def state(cloud: CloudState, model_id: str) -> str:
    with cloud.index.read() as connection:
        query = models.select().where(models.c.model_id == model_id)
        return str(connection.execute(query).one().state)


def label(cloud: CloudState) -> int:
    """Label every audit that a shadow looked at, by what the student in use found; return how many there are."""
    beside = (frames.c.reason == "audit") & frames.c.shadow.is_not(None)
    with cloud.index.write() as connection:
        rows = connection.execute(frames.select().where(beside)).all()
        found = {row.id: true(row.detections) for row in rows if row.labels is None}
        enter_labels(connection, found, cloud.clock.now())
    return len(rows)


def true(blob: bytes) -> Detections:
    return from_wire(msgspec.msgpack.decode(blob, type=WireDetections))


def trial(cloud: CloudState) -> Trial:
    return Trials(cloud.index).trials()[-1]


def labelled_until(cloud: CloudState, *states: str) -> Trial:
    """Label audits until the trial is in one of those states; return it."""

    def ended() -> bool:
        label(cloud)
        return trial(cloud).state in states

    wait_until(ended, 2 * LONG_S, 0.2)
    return trial(cloud)


def test_a_student_runs_beside_the_one_in_use_and_takes_its_place_once_it_is_found_not_to_be_worse(
    site: Site, cloud: CloudState
) -> None:
    with ServiceProcess(cloud) as service:
        begin(site, cloud, service)
        cloud.requests.ask("publish", CAMERA, 0.0, msgspec.to_builtins(cloud.artefact(tag="as good")))
        wait_until(lambda: heard(cloud) == (f"{CAMERA}-1", f"{CAMERA}-2"), LONG_S)
        assert state(cloud, f"{CAMERA}-2") == "shadow"
        assert labelled_until(cloud, "passed", "failed").state == "passed", trial(cloud).why
        wait_until(lambda: heard(cloud) == (f"{CAMERA}-2", ""), LONG_S)
    assert "not worse" in trial(cloud).why
    assert [swap.outcome for swap in cloud.registry.swaps().values()] == ["live"]
    assert "promote" in [row["action"] for row in Deeds(cloud.index).all()]


def test_a_worse_one_goes_and_the_camera_keeps_its_student_though_both_sides_were_killed_meanwhile(
    site: Site, cloud: CloudState
) -> None:
    with ServiceProcess(cloud) as service:
        begin(site, cloud, service)
        cloud.requests.ask("publish", CAMERA, 0.0, msgspec.to_builtins(cloud.artefact(floor=0.62)))
        wait_until(lambda: heard(cloud) == (f"{CAMERA}-1", f"{CAMERA}-2"), LONG_S)
        wait_until(lambda: label(cloud) > 0, LONG_S)
        service.kill()
    kept(cloud, service)
    site.processes[-1].send_signal(signal.SIGKILL)
    site.processes[-1].wait(LONG_S)
    with ServiceProcess(cloud) as service:
        site.start()
        assert labelled_until(cloud, "passed", "failed").state == "failed"
        wait_until(lambda: heard(cloud) == (f"{CAMERA}-1", ""), LONG_S)
    assert "worse" in trial(cloud).why
    assert state(cloud, f"{CAMERA}-2") == "rejected"
    assert state(cloud, f"{CAMERA}-1") == "live"


def test_waves_go_on_where_they_were_halted_though_the_service_was_killed_then(
    site: Site, cloud: CloudState, capfd: pytest.CaptureFixture[str]
) -> None:
    student = cloud.folder / "student.onnx"
    student.write_bytes(tiny.student(tag="pushed"))

    def waves(*words: str) -> None:
        assert main(["cloud", *words, "--config", str(cloud.toml)]) == 0

    def states() -> list[str]:
        label(cloud)
        return [one.state for one in Trials(cloud.index).trials()]

    with ServiceProcess(cloud) as service:
        begin(site, cloud, service, "gate", "yard")
        waves("push", str(student), "gate", "yard")
        wait_until(lambda: heard(cloud) == ("gate-1", "gate-2"), LONG_S)
        waves("waves", "halt", "1")
        wait_until(lambda: label(cloud) >= AUDITS, LONG_S)
        service.kill()
    kept(cloud, service)
    with ServiceProcess(cloud):
        before = label(cloud)
        wait_until(lambda: label(cloud) > before + AUDITS, LONG_S)
        assert states() == ["shadow", "waiting"], "halted, nothing takes a place"
        waves("waves", "resume", "1")
        wait_until(lambda: states() == ["passed", "shadow"], 2 * LONG_S, 0.2)
        wait_until(lambda: states() == ["passed", "passed"], 2 * LONG_S, 0.2)
        wait_until(lambda: Trials(cloud.index).rollouts()[0].state == "done", LONG_S)
        waves("waves", "rollback", "1")
        wait_until(lambda: heard(cloud) == ("gate-3", "") and heard(cloud, "yard") == ("yard-3", ""), 2 * LONG_S)
        assert states() == ["back", "back"]
    base = cloud.artefact().sha256
    assert [model.artefact.sha256 for model in cloud.registry.live().values()] == [base, base]
