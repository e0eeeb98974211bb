"""F12: disks that are full or read-only, on either side. Work goes on, nothing is half-done, no restart is needed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.common.cli import main
from culling.common.wire.messages import Ack, Nack
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, hard_frame
from support.disks import fill, small_disk
from support.scrape import Scrape
from support.site import Site, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.fault
FPS = 25


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A camera of 25 frames a second, every one of which is to be forwarded, on a disk of 8 MiB."""
    site = Site(tmp_path)
    moving_clip(tmp_path / "clip.mp4", frames=50)
    site.install_student()
    site.settings["camera"][0]["loop"] = True
    site.settings["selector"] = {"policy": "cloud-only"}
    site.settings["spool"] = {"max_bytes": 4 << 20}
    with small_disk(tmp_path / "disk", 8) as disk:
        site.settings["agent"]["state_dir"] = str(disk)
        yield site
        site.close()


def running(site: Site) -> Scrape:
    """Start the agent; return once it detects."""
    site.start()
    wait_until(lambda: "agent_started" in site.log())
    agent = Scrape.of_agent(site.folder / "agent.log")
    wait_until(lambda: agent.sum("frames_inferred_total") > 0)
    return agent


def test_f12_an_edge_with_a_full_disk_goes_on_detecting_and_recovers_by_itself(site: Site) -> None:
    agent = running(site)
    wait_until(lambda: agent.sum("frames_spooled_total") > 5)
    filler = fill(site.folder / "disk")
    wait_until(lambda: agent.sum("frames_dropped_total", stage="recorder", reason="storage") >= 10)
    assert agent.ready() == (False, "the spool cannot be written")
    wait_until(lambda: agent.sum("storage_failing") == 1)
    wait_until(lambda: agent.sum("disk_free_bytes") < 1 << 20)
    inferred, began = agent.sum("frames_inferred_total"), time.monotonic()
    wait_until(lambda: agent.sum("frames_inferred_total") >= inferred + FPS)
    assert time.monotonic() - began < 5, "detection is as fast as the camera"

    filler.unlink()
    spooled = agent.sum("frames_spooled_total")
    wait_until(lambda: agent.sum("frames_spooled_total") > spooled + 5)
    assert agent.ready()[0]
    assert len(site.processes) == 1
    assert site.processes[0].poll() is None
    chosen, dropped = agent.sum("frames_spooled_total"), agent.sum("frames_dropped_total", stage="recorder")
    assert agent.sum("frames_inferred_total") - (chosen + dropped) <= 17, "the rest waits in the recorder's queue"


def test_f12_an_edge_that_starts_on_a_read_only_disk_detects_and_spools_once_it_can(site: Site) -> None:
    disk = site.folder / "disk"
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    agent = running(site)
    wait_until(lambda: agent.sum("frames_dropped_total", stage="recorder", reason="storage") >= 3)
    assert not agent.ready()[0]

    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    wait_until(lambda: agent.sum("frames_spooled_total") > 0)
    assert agent.ready()[0]


def test_f12_a_cloud_with_a_full_disk_never_acks_and_recovers_by_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        cloud = CloudState(tmp_path, schedule={"hold": True}, service={"data_dir": str(disk)})
        secret = cloud.enroll()
        cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
        with ServiceProcess(cloud) as service:
            edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
            sent = [hard_frame(seq) for seq in range(1, 30)]
            acked = {edge.ask(frame, Ack, payload=jpeg).seq for frame, jpeg in sent[:10]}
            filler = fill(disk)
            for frame, jpeg in sent[10:20]:
                answer = edge.ask(frame, Ack, Nack, payload=jpeg)
                assert isinstance(answer, Nack), "what cannot be kept is never acked"
                assert answer.retry
                assert answer.reason in ("busy", "disk-full")
            health = Scrape((disk / "metrics").read_text().strip())
            wait_until(lambda: health.sum("storage_failing") == 1 and not health.ready()[0])

            filler.unlink()
            for frame, jpeg in sent:
                wait_until(lambda f=frame, j=jpeg: isinstance(edge.ask(f, Ack, Nack, payload=j), Ack))
                acked.add(frame.seq)
            wait_until(lambda: health.sum("storage_failing") == 0 and health.ready()[0])
            edge.close()
            assert service.terminate() == 0
        assert cloud.frames.counts()[CAMERA].stored == len(acked) == len(sent)
        assert main(["cloud", "fsck", "--config", str(cloud.toml)]) == 0
        cloud.close()
