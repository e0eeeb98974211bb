"""Records that wait for the teacher: a real edge with a real service and its labelling process, and with a line cut."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.weights.classes import CLASSES
from culling.common.detections import Record, follow
from culling.common.wire.messages import Escalate, Verdict, to_wire
from support.cloud import CAMERA, CloudState, ServiceProcess, detections
from support.narrow import narrow_base
from support.rounds import QUICK
from support.scrape import Scrape
from support.site import CloudEnd, Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def site_of(folder: Path, **cascade: Any) -> Site:
    """Return an edge whose camera plays a clip over and over, and whose records go to a file."""
    site = Site(folder)
    site.settings["camera"][0] |= {"loop": True, "max_fps": 10.0}
    site.settings["metrics"] = {"port": free_port()}
    site.settings["output"] = [{"kind": "jsonl", "path": str(folder / "detections.jsonl")}]
    site.settings["cascade"] = {"per_minute": 600, "share": 0.5, **cascade}
    moving_clip(folder / "clip.mp4", frames=120)
    return site


def records(site: Site) -> list[Record]:
    return list(follow(site.folder / "detections.jsonl", timeout_s=0))


def in_order(found: list[Record]) -> bool:
    return [one.seq for one in found] == sorted({one.seq for one in found})


def count(site: Site, name: str, **labels: str) -> float:
    return Scrape(f"http://127.0.0.1:{site.settings['metrics']['port']}").sum(f"{name}_total", **labels)


# With a service


@pytest.fixture
def answered(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """An edge, and a service with a narrow teacher that labels nothing but answers."""
    narrow = narrow_base(request.config)
    weights = str(shutil.copy(narrow / "student.safetensors", tmp_path / "teacher.safetensors"))
    sections = {"teacher": {**QUICK["teacher"], "file": weights}, "labelling": {"verdicts_per_minute": 600}}
    cloud = CloudState(tmp_path, schedule={"hold": True}, **sections)
    secret = cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    with ServiceProcess(cloud) as service:
        site = site_of(tmp_path, deadline_s=20.0)
        key = base64.b64encode(cloud.keys.signing.public_key().public_bytes_raw()).decode()
        told = {"server_key": cloud.keys.curve_public, "secret_key": secret, "signing_keys": [key]}
        site.settings["cloud"] |= {"endpoint": service.endpoint, **told}
        site.start()
        yield site
        site.close()
        service.terminate()
    cloud.close()


def test_a_record_goes_out_with_the_answer_of_the_services_teacher(answered: Site) -> None:
    wait_until(lambda: sum(one.by == "teacher" for one in records(answered)) >= 3, 240)
    found = records(answered)
    assert in_order(found)
    for one in found:
        assert (one.by, one.teacher) in {("teacher", "bundled"), ("student", "")}
        assert {box.label for box in one.detections} <= set(CLASSES)
        assert one.model == f"{CAMERA}-1"
    assert any(one.by == "student" for one in found)
    assert count(answered, "verdicts_taken") >= 3


# With a line that is cut


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = site_of(tmp_path, deadline_s=1.0)
    site.install_student()
    yield site
    site.close()


@pytest.fixture
def cloud(site: Site) -> Iterator[CloudEnd]:
    cloud = site.cloud()
    cloud.verdicts = True
    yield cloud
    cloud.close()


def test_where_the_line_is_cut_the_students_record_goes_out_at_the_deadline(site: Site, cloud: CloudEnd) -> None:
    site.start()
    asked, jpeg = cloud.receive(Escalate, 120)
    assert jpeg
    found = detections((1, 2, 30, 40, 0.9, 2))
    cloud.send(Verdict(asked.camera, asked.boot, asked.seq, to_wire(found), "big"))
    cloud.receive(Escalate)
    wait_until(lambda: any(one.by == "teacher" for one in records(site)))
    [answered] = [one for one in records(site) if one.by == "teacher"]
    assert (answered.teacher, [(box.label, box.score) for box in answered.detections]) == ("big", [("car", 0.9)])

    cloud.close()
    waiting = len(records(site))
    wait_until(lambda: len(records(site)) >= waiting + 20)
    later = records(site)
    assert in_order(later)
    assert {one.by for one in later[waiting:]} == {"student"}
    assert count(site, "verdicts_missed", reason="deadline") > 0
    wait_until(lambda: count(site, "escalations_skipped", reason="no-line") > 0)
    asked_before = count(site, "escalations")
    wait_until(lambda: len(records(site)) >= len(later) + 20)
    assert count(site, "escalations") == asked_before, "nothing is asked, and so nothing waits"
    assert time.time() - records(site)[-1].at < 30


def test_a_verdict_that_comes_after_the_deadline_or_was_never_asked_for_changes_no_record(
    site: Site, cloud: CloudEnd
) -> None:
    site.start()
    late, _ = cloud.receive(Escalate, 120)
    wait_until(lambda: (list(cloud.turn()), count(site, "verdicts_missed", reason="deadline"))[1] > 0)
    found = to_wire(detections((1, 2, 30, 40, 0.9, 2)))
    cloud.send(Verdict(late.camera, late.boot, late.seq, found, "big"))
    wait_until(lambda: (list(cloud.turn()), count(site, "verdicts_dropped", reason="late"))[1] == 1)
    assert {one.by for one in records(site)} == {"student"}

    for _ in range(2):
        cloud.send(Verdict(late.camera, late.boot, 10**6, found, "big"))
    wait_until(lambda: (list(cloud.turn()), count(site, "verdicts_dropped", reason="unasked"))[1] == 2)
    assert {one.by for one in records(site)} == {"student"}


def test_a_file_that_has_ended_ends_its_agent_once_every_record_has_left(site: Site, cloud: CloudEnd) -> None:
    site.settings["camera"][0] |= {"loop": False, "max_fps": 0.0}
    site.settings["agent"]["exit_when_done"] = True
    process = site.start()
    wait_until(lambda: (list(cloud.turn()), process.poll())[1] is not None)
    assert process.returncode == 0, site.log()
    found = records(site)
    assert in_order(found)
    asked = [message for message, _ in cloud.seen if isinstance(message, Escalate)]
    assert asked
    assert {one.by for one in found} == {"student"}
    assert len(found) > 60, "of 120 at 25 a second, some of which the student may miss"
