from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from culling.cloud.model.base import base_artefact
from culling.cloud.page import views
from culling.cloud.service import Service
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.folders import only_one
from culling.cloud.store.frames import Arrival
from culling.cloud.store.rounds import MAX_CRASHES
from culling.common.errors import StorageError
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import Ack, ModelOffer, Nack, Welcome
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, camera_state, hard_frame, hello
from support.detectors import picture
from support.narrow import install
from support.nursery import Child
from support.scrape import Scrape
from support.waiting import wait_until

OFFERED = "is offered; live once the edge reports it"

EDGE = "e" * 40
QUICK: dict[str, Any] = {
    "round": {
        "kept": 4,
        "most_steps": 1,
        "patience": 1,
        "batch": 2,
        "held_out": 4,
        "warmup": 1,
        "threads": 1,
    },
    "teacher": {"kind": "bundled", "short_side": 96, "batch": 2, "min_score": 0.0, "true_score": 0.1},
    "resolution": {"choose": "loss", "max_steps": 1, "threshold": 1e9},
    "gate": {"margin": -1.0, "least": 1, "certainty": 0.5, "worse": 1.0},
    "schedule": {"min_new": 8, "least": 8},
    "labelling": {"per_day": 100_000},
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    """A camera with a model, and a service that starts no round by itself."""
    state = CloudState(tmp_path, schedule={"hold": True})
    yield state
    state.close()


def quick(folder: Path, narrow: Path, teacher: Path) -> CloudState:
    """Return a cloud whose rounds run with a narrow student, and a narrow teacher of those weights."""
    sections = {**QUICK, "student": {"weights": str(narrow / "student.safetensors"), "long_side": 128}}
    sections["teacher"] = {**QUICK["teacher"], "file": str(teacher)}
    state = CloudState(folder, **sections)
    install(narrow, state.data_dir)
    return state


@pytest.fixture
def learning(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    """A camera whose rounds run with a narrow student and a narrow teacher."""
    state = quick(tmp_path, narrow, narrow / "student.safetensors")
    yield state
    state.close()


def connect(cloud: CloudState, service: ServiceProcess, secret: str) -> Edge:
    return Edge(service.endpoint, cloud.keys.curve_public, secret)


def publish_base(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, base_artefact(cloud.settings, cloud.files), "base")


# Start and end


def test_it_says_where_it_listens_until_it_ends(cloud: CloudState) -> None:
    with ServiceProcess(cloud) as service:
        assert service.endpoint.startswith("tcp://127.0.0.1:")
        url = (cloud.data_dir / "metrics").read_text().strip()
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            assert b"culling_frames_stored_total" in answer.read()
        assert service.terminate() == 0
    assert not (cloud.data_dir / "endpoint").exists()
    assert not (cloud.data_dir / "metrics").exists()


def test_models_out_of_use_go_while_rounds_wait(cloud: CloudState) -> None:
    cloud.enroll()
    for camera in (CAMERA, "yard", "dock", "hall", "ramp"):
        cloud.rounds.start(camera, "manual", 1.0)
    path = cloud.files.path(cloud.files.add(b"out of use", "onnx"), "onnx")
    os.utime(path, (1.0, 1.0))
    with ServiceProcess(cloud):
        wait_until(lambda: not path.exists())
        assert cloud.rounds.unfinished(), "the queue is not empty"


def test_a_camera_waits_for_its_first_round_since_its_edge_was_enrolled(cloud: CloudState) -> None:
    cloud.enroll("gate", "yard")
    cloud.rounds.end(cloud.rounds.start("yard", "manual", 1.0).id, "failed", {}, "why", 5.0)
    told = {row.name: row.enrolled for row in cloud.roster.rows()} | {"yard": 5.0}
    with ServiceProcess(cloud):
        metrics = Scrape((cloud.data_dir / "metrics").read_text().strip())
        wait_until(lambda: {name: metrics.sum("last_round_time", camera=name) for name in told} == told)


@pytest.mark.parametrize(("limit", "merged"), [(2, False), (1, True), (0, True)])
def test_beyond_a_number_of_cameras_their_series_are_merged(tmp_path: Path, limit: int, merged: bool) -> None:
    cloud = CloudState(tmp_path, schedule={"hold": True}, metrics={"port": 0, "cameras": limit})
    cloud.enroll("gate", "yard")
    cloud.enroll("ramp", edge="edge-2")
    cloud.roster.revoke("edge-2")
    wanted = {'camera="(all)"'} if merged else {'camera="gate"', 'camera="yard"'}
    with ServiceProcess(cloud) as service:
        metrics = Scrape((cloud.data_dir / "metrics").read_text().strip())
        wait_until(lambda: {*re.findall('camera="[^"]+"', metrics.text("/metrics"))} >= wanted)
        found = {*re.findall('camera="[^"]+"', metrics.text("/metrics"))}
        assert found - {'camera="ramp"'} == wanted, "of one that is revoked times are shown, but it does not count"
        told = [line for line in service.log().splitlines() if '"metrics_merged"' in line]
    cloud.close()
    assert [(one["cameras"], one["limit"]) for one in map(json.loads, told)] == [(2, limit)] * merged


def test_the_service_never_imports_torch() -> None:
    code = "import sys, culling.cloud.cli, culling.cloud.service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_data_folder_has_one_service(cloud: CloudState) -> None:
    with only_one(cloud.data_dir), pytest.raises(StorageError, match="another service"):
        Service(cloud.settings).run()
    with only_one(cloud.data_dir):
        pass


def test_a_port_that_is_taken_ends_it_with_one_line(cloud: CloudState) -> None:
    with ServiceProcess(cloud) as service:
        other = CloudState(cloud.folder / "data", service={"endpoint": service.endpoint})
        command = [sys.executable, "-m", "culling.common.cli", "cloud", "serve", "--config", str(other.toml)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "cannot listen" in done.stderr.splitlines()[-1]
        other.close()


# Requests


def test_a_rollback_asked_for_reaches_the_edge_as_a_newer_model(cloud: CloudState) -> None:
    secret = cloud.enroll()
    for tag in "ab":
        cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round")
    with ServiceProcess(cloud) as service:
        edge = connect(cloud, service, secret)
        edge.ask(hello(camera_state(model_id="gate-2")), Welcome)
        request = cloud.requests.ask("rollback", CAMERA, time.time())
        offer, _ = edge.receive(ModelOffer, within_s=60)
        assert offer.camera == CAMERA
        wait_until(lambda: cloud.requests.answered(request) == (True, f"gate-3 {OFFERED}"))
        edge.close()
    assert cloud.registry.live()[CAMERA].artefact.sha256 == cloud.registry.models(CAMERA)[2].artefact.sha256


def test_a_model_gone_back_to_is_signed_anew_when_asked(cloud: CloudState) -> None:
    cloud.enroll()
    for tag in "ab":
        cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round")
    cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    request = cloud.requests.ask("renew", CAMERA, time.time())
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.requests.answered(request) == (True, f"gate-3 {OFFERED}"))


def test_what_was_asked_while_it_was_down_is_done_at_its_start(cloud: CloudState) -> None:
    cloud.enroll()
    artefact = msgspec.to_builtins(cloud.artefact())
    request = cloud.requests.ask("publish", CAMERA, time.time(), artefact)
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.requests.answered(request) == (True, f"gate-1 {OFFERED}"))


def test_no_round_is_promised_to_a_camera_whose_edge_is_revoked(cloud: CloudState) -> None:
    cloud.enroll()
    cloud.roster.revoke("edge-1")
    request = cloud.requests.ask("round", CAMERA, time.time())
    with ServiceProcess(cloud):
        wait_until(lambda: not cloud.requests.open())
    assert cloud.requests.answered(request) == (False, "camera gate cannot have a round: its edge is revoked")


@pytest.mark.parametrize(("kind", "camera"), [("rollback", CAMERA), ("rollback", "yard"), ("round", "yard")])
def test_a_request_that_makes_no_sense_is_answered_so(cloud: CloudState, kind: Any, camera: str) -> None:
    cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    request = cloud.requests.ask(kind, camera, time.time())
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.requests.answered(request) is not None)
    answer = cloud.requests.answered(request)
    assert answer is not None
    assert not answer[0]


# Rounds


def feed(cloud: CloudState, edge: Edge, seqs: range) -> None:
    for seq in seqs:
        frame, jpeg = hard_frame(seq, jpeg=encode_jpeg(picture(96, 128, seq)), width=128, height=96)
        edge.ask(frame, Ack, payload=jpeg)


@pytest.mark.timeout(300)
def test_frames_that_come_in_end_in_a_signed_model_offered_to_the_edge(learning: CloudState) -> None:
    secret = learning.enroll()
    publish_base(learning)
    with ServiceProcess(learning) as service:
        edge = connect(learning, service, secret)
        edge.ask(hello(camera_state(model_id="gate-1")), Welcome)
        feed(learning, edge, range(1, 17))
        edge.receive(ModelOffer, within_s=200, beat=hello(camera_state(model_id="gate-1")))
        (turn,) = learning.rounds.all()
        assert (turn.state, turn.trigger, turn.model_id) == ("published", "new-frames", "gate-2")
        url = (learning.data_dir / "metrics").read_text().strip()
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            assert b'culling_rounds_total{camera="gate",outcome="published"} 1.0' in answer.read()
        edge.close()
        assert service.terminate() == 0


@pytest.mark.timeout(300)
def test_a_round_survives_every_kill_of_its_service(learning: CloudState) -> None:
    secret = learning.enroll()
    publish_base(learning)
    with ServiceProcess(learning) as service:
        edge = connect(learning, service, secret)
        feed(learning, edge, range(1, 17))
        edge.close()
        wait_until(lambda: len(learning.rounds.unfinished()) == 1, 120)  # a teacher is loaded first
        service.kill()
    seen: list[list[str]] = []
    for kill_after in (1, 3, None):
        with ServiceProcess(learning) as service:
            (turn,) = learning.rounds.all()

            def reached(count: int | None = kill_after, number: int = turn.id) -> bool:
                now = learning.rounds.get(number)
                return now.state == "published" if count is None else len(now.stages) >= count

            wait_until(reached, within_s=120)
            service.kill()
        seen.append(list(learning.rounds.get(turn.id).stages))
    assert all(after[: len(before)] == before for before, after in pairwise(seen))
    (turn,) = learning.rounds.all()
    assert (turn.state, turn.crashes) == ("published", 0)
    assert learning.registry.live_ids() == {CAMERA: "gate-2"}, "published once"


def labellers(process: Child) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in children(process)]
    return [one for one in found if "culling.cloud.labelling" in one.cmdline()]


@pytest.mark.timeout(300)
def test_the_process_that_labels_is_replaced_when_it_is_killed_and_ends_with_its_service(learning: CloudState) -> None:
    secret = learning.enroll()
    publish_base(learning)
    DesiredStates(learning.index).change(CAMERA, held=True)
    with ServiceProcess(learning) as service:
        edge = connect(learning, service, secret)
        feed(learning, edge, range(1, 9))
        wait_until(lambda: learning.frames.counts()[CAMERA].asking == 0, 120)
        metrics = Scrape((learning.data_dir / "metrics").read_text().strip())
        wait_until(lambda: metrics.sum("frames_labelled_total", camera=CAMERA) == 8)
        (first,) = labellers(service.process)
        first.kill()
        feed(learning, edge, range(9, 12))
        edge.close()
        wait_until(lambda: learning.frames.counts()[CAMERA].asking == 0, 120)
        assert metrics.sum("labelling_deaths_total") == 1
        assert metrics.sum("teacher_queue", camera=CAMERA) in (0, 3)
        (second,) = labellers(service.process)
        service.kill()
        wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.timeout(300)
def test_a_teacher_that_cannot_be_loaded_is_told_while_frames_are_taken(tmp_path: Path, narrow: Path) -> None:
    weights = tmp_path / "teacher.safetensors"
    shutil.copy(narrow / "student.safetensors", weights)
    learning = quick(tmp_path, narrow, weights)
    secret = learning.enroll()
    publish_base(learning)
    whole = weights.read_bytes()
    with ServiceProcess(learning) as service:
        metrics = Scrape((learning.data_dir / "metrics").read_text().strip())
        edge = connect(learning, service, secret)
        weights.write_bytes(whole[:1000])
        feed(learning, edge, range(1, 9))
        wait_until(lambda: metrics.sum("labelling_failing") == 1, 120)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{metrics.address}/readyz", timeout=5)
        assert str(weights) in refused.value.read().decode()
        (row,) = views.cameras(learning.index, time.time(), learning.settings)
        assert "more cannot be labelled: " in row["next_round"]["told"]
        weights.write_bytes(whole)
        request = learning.requests.ask("round", CAMERA, time.time())
        wait_until(lambda: learning.requests.answered(request) == (True, "round 1 started"), 120)
        wait_until(lambda: metrics.sum("labelling_failing") == 0)
        edge.close()
    learning.close()


def children(process: Child) -> list[int]:
    """Return the children that run a program of their own: until then a child holds its parent, which waits for it."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if told(pid) != told(process.pid)]


def told(pid: int | str) -> bytes:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.mark.fault
def test_a_round_whose_process_is_killed_again_and_again_fails(cloud: CloudState) -> None:
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", time.time())
    with ServiceProcess(cloud) as service:
        for crashes in range(1, MAX_CRASHES + 1):
            wait_until(lambda: len(children(service.process)) == 1)
            os.kill(children(service.process)[0], signal.SIGKILL)
            wait_until(lambda number=crashes: cloud.rounds.get(turn.id).crashes == number)  # type: ignore[misc]
        wait_until(lambda: cloud.rounds.get(turn.id).state == "failed")
    assert "died 3 times, last killed, perhaps for lack of memory" in cloud.rounds.get(turn.id).reason


@pytest.mark.fault
def test_a_second_signal_ends_it_at_once(cloud: CloudState) -> None:
    cloud.enroll()
    cloud.rounds.start(CAMERA, "manual", time.time())
    with ServiceProcess(cloud) as service:
        wait_until(lambda: len(children(service.process)) == 1)
        child = psutil.Process(children(service.process)[0])
        child.suspend()  # or it would end too soon to be waited for
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not (cloud.data_dir / "endpoint").exists())
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(5) == 128 + signal.SIGINT
        child.resume()
        wait_until(lambda: not child.is_running(), 180)  # it imports torch before it looks


def test_what_was_killed_does_not_seem_to_listen(cloud: CloudState) -> None:
    with ServiceProcess(cloud) as service:
        assert views.endpoint(cloud.data_dir) == service.endpoint
        service.kill()
    assert (cloud.data_dir / "endpoint").exists()
    assert views.endpoint(cloud.data_dir) is None


@pytest.mark.fault
def test_a_round_that_cannot_write_is_tried_until_it_can(cloud: CloudState) -> None:
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", time.time())
    blocked = cloud.data_dir / "rounds"
    blocked.write_text("in the way")
    with ServiceProcess(cloud) as service:
        wait_until(lambda: "round_process_died" in service.log(), within_s=90)
        assert cloud.rounds.get(turn.id).crashes == 0
        blocked.unlink()
        wait_until(lambda: cloud.rounds.get(turn.id).state == "refused")
    assert "no frame to learn from" in cloud.rounds.get(turn.id).reason


def test_a_round_that_was_ready_when_the_power_went_is_published_at_the_start(cloud: CloudState) -> None:
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", time.time())
    cloud.rounds.save_stage(turn.id, "export", {"artefact": msgspec.to_builtins(cloud.artefact())})
    cloud.rounds.end(turn.id, "ready", {"published": True}, "", None)
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.rounds.get(turn.id).state == "published")
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_a_ready_round_of_a_pinned_camera_is_refused(cloud: CloudState) -> None:
    cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="base"), "base")
    DesiredStates(cloud.index).change(CAMERA, pinned="gate-1")
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    cloud.rounds.save_stage(turn.id, "export", {"artefact": msgspec.to_builtins(cloud.artefact(tag="new"))})
    cloud.rounds.end(turn.id, "ready", {"published": True}, "", None)
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.rounds.get(turn.id).state == "refused")
    assert cloud.rounds.get(turn.id).reason == "the camera is pinned to gate-1"
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_a_ready_round_whose_model_is_damaged_fails_and_changes_nothing(cloud: CloudState) -> None:
    cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    artefact = cloud.artefact(tag="b")
    cloud.files.path(artefact.sha256, "onnx").write_bytes(b"rot")
    turn = cloud.rounds.start(CAMERA, "manual", time.time())
    cloud.rounds.save_stage(turn.id, "export", {"artefact": msgspec.to_builtins(artefact)})
    cloud.rounds.end(turn.id, "ready", {"published": True}, "", None)
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.rounds.get(turn.id).state == "failed")
    ended = cloud.rounds.get(turn.id)
    assert "damaged" in ended.reason
    assert not ended.report["published"]
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_a_ready_round_whose_result_cannot_be_read_fails_and_the_service_lives_on(cloud: CloudState) -> None:
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", time.time())
    cloud.rounds.save_stage(turn.id, "export", {"artefact": {"sha256": 7}})
    cloud.rounds.end(turn.id, "ready", {"published": True}, "", None)
    request = cloud.requests.ask("publish", CAMERA, time.time(), {"size": "large"})
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.requests.answered(request) is not None)
        wait_until(lambda: cloud.rounds.get(turn.id).state == "failed")
    answer = cloud.requests.answered(request)
    assert answer is not None
    assert not answer[0]
    for reason in (answer[1], cloud.rounds.get(turn.id).reason):
        assert "cannot be read" in reason


def test_on_hold_no_round_starts_by_itself(cloud: CloudState) -> None:
    cloud.enroll()
    for seq in range(200):
        cloud.frames.add(EDGE, *hard_frame(seq))
    request = cloud.requests.ask("rollback", "nowhere", time.time())
    with ServiceProcess(cloud):
        wait_until(lambda: cloud.requests.answered(request) is not None)
        time.sleep(1)
    assert cloud.rounds.all() == []


# Floods


@pytest.mark.fault
def test_an_edge_that_floods_fills_its_own_quota_and_nobody_elses(tmp_path: Path) -> None:
    size = Arrival("e" * 40, *hard_frame(1)).size
    cloud = CloudState(tmp_path, schedule={"hold": True}, store={"quota_bytes": 10 * size})
    flooder, honest = cloud.enroll("yard", edge="edge-2"), cloud.enroll()
    with ServiceProcess(cloud) as service:
        edge = connect(cloud, service, flooder)
        answers = []
        for seq in range(60):
            frame, jpeg = hard_frame(seq, "yard")
            answers.append(edge.ask(frame, Ack, Nack, payload=jpeg))
        assert {answer.reason for answer in answers if isinstance(answer, Nack)} == {"quota"}
        other = connect(cloud, service, honest)
        frame, jpeg = hard_frame(1)
        assert other.ask(frame, Ack, payload=jpeg).seq == 1
        edge.close()
        other.close()
    assert cloud.frames.counts()["yard"].bytes <= 10 * size
    cloud.close()
