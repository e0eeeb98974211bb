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
from culling.common.frame import Detections
from culling.common.wire.messages import WireDetections, from_wire
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
    settings = {"waves": {"shadow": 0.5, "audits": AUDITS}, "schedule": {"hold": True}, "publish": {"reoffer_s": 1.0}}
    made = CloudState(tmp_path, **settings)
    yield made
    made.close()


def begin(site: Site, cloud: CloudState, service: ServiceProcess) -> None:
    """Start an agent that runs the camera's base student."""
    site.signing = cloud.keys.signing
    site.settings["cloud"] |= {
        "endpoint": service.endpoint,
        "server_key": cloud.keys.curve_public,
        "secret_key": cloud.enroll(),
        "signing_keys": [base64.b64encode(site.signing.public_key().public_bytes_raw()).decode()],
    }
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    site.install_student()
    site.start()
    wait_until(lambda: heard(cloud) == (f"{CAMERA}-1", ""), LONG_S)


def heard(cloud: CloudState) -> tuple[str, str | None] | None:
    """Return which model the camera runs, and which one beside it, as its edge last said."""
    (row,) = cloud.roster.rows()
    return None if row.state is None else (row.state.model_id, row.state.shadow)


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
    cloud.toml.write_text(cloud.toml.read_text().replace("tcp://127.0.0.1:0", service.endpoint))
    site.processes[-1].send_signal(signal.SIGKILL)
    site.processes[-1].wait(LONG_S)
    with ServiceProcess(cloud) as service:
        site.start()
        assert labelled_until(cloud, "passed", "failed").state == "failed"
        wait_until(lambda: heard(cloud) == (f"{CAMERA}-1", ""), LONG_S)
    assert "worse" in trial(cloud).why
    assert state(cloud, f"{CAMERA}-2") == "rejected"
    assert state(cloud, f"{CAMERA}-1") == "live"
