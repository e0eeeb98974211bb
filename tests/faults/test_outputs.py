"""F25: where detections go to stalls, dies, refuses or is full: no frame is lost or late, and lost records count."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.disks import fill, small_disk
from support.outputs import MOSQUITTO, Broker, HttpsServer, certificate
from support.scrape import Scrape
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.fault
FPS = 25
QUEUE = 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    moving_clip(tmp_path / "clip.mp4", frames=50)
    site.install_student()
    site.settings["camera"][0]["loop"] = True
    yield site
    site.close()


def running(site: Site, outputs: list[dict[str, Any]]) -> Scrape:
    site.settings["output"] = [{**one, "queue": QUEUE} for one in outputs]
    site.start()
    wait_until(lambda: site.log().count('"agent_started"') == len(site.processes))
    agent = Scrape.of_agent(site.folder / "agent.log")
    wait_until(lambda: agent.sum("frames_inferred_total") > 0)
    return agent


def test_f25_outputs_that_stall_die_refuse_or_are_full_cost_no_frame_and_what_they_lose_is_counted(site: Site) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    tls = certificate(site.folder)
    broker = Broker(site.folder, tls=tls).start()
    stalls, refuses, port = HttpsServer(tls=tls), HttpsServer(lambda request: 400, tls=tls), free_port()
    hook = {"kind": "webhook", "ca_file": str(tls.cert), "batch_s": 0.1, "timeout_s": 1.0}
    with small_disk(site.folder / "disk", 2) as disk:
        outputs: list[dict[str, Any]] = [
            {"kind": "jsonl", "name": "full", "path": str(disk / "d.jsonl")},
            {"kind": "mqtt", "name": "frozen", "url": broker.url, "ca_file": str(tls.cert), "qos": 1},
            {**hook, "name": "stalls", "url": stalls.url},
            {**hook, "name": "refuses", "url": refuses.url},
            {**hook, "name": "nobody", "url": f"https://127.0.0.1:{port}/"},
        ]
        agent = running(site, outputs)
        wait_until(lambda: all(agent.sum("output_records_total", output=name) > 0 for name in ("full", "frozen")))
        filler = fill(disk)
        broker.freeze()
        stalls.stall.clear()
        hurt = ("full", "frozen", "stalls", "refuses", "nobody")

        wait_until(lambda: all(agent.sum("output_records_dropped_total", output=name) > QUEUE for name in hurt), 90)

        assert agent.sum("frames_dropped_total") <= 0.02 * agent.sum("frames_seen_total"), "a busy machine may lose one"
        assert agent.sum("output_up", output="nobody") == agent.sum("output_up", output="full") == 0
        assert agent.sum("output_records_dropped_total", output="refuses", reason="refused") > 0
        assert agent.sum("output_records_dropped_total", output="full", reason="queue-full") > 0
        seen, inferred = agent.sums("frames_seen_total", "frames_inferred_total")
        assert seen - inferred <= 2
        assert agent.ready() == (True, "detecting")

        filler.unlink()
        broker.thaw()
        stalls.stall.set()
        wait_until(lambda: all(agent.sum("output_up", output=name) == 1 for name in ("full", "frozen", "stalls")), 120)
        wait_until(lambda: agent.sum("output_waiting", output="full") < QUEUE / 2)
        site.close()
    broker.stop()
    stalls.close()
    refuses.close()


def test_f25_a_frame_is_as_quick_with_outputs_that_are_down_as_with_none(site: Site) -> None:
    def mean_s(outputs: list[dict[str, Any]]) -> float:
        agent = running(site, outputs)
        before = agent.sums("detection_seconds_sum", "detection_seconds_count")
        wait_until(lambda: agent.sum("detection_seconds_count") >= before[1] + 2 * FPS)
        after = agent.sums("detection_seconds_sum", "detection_seconds_count")
        site.processes[-1].kill()
        site.processes[-1].wait(10)
        return (after[0] - before[0]) / (after[1] - before[1])

    down = [
        {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"},
        {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{free_port()}"},
        {"kind": "jsonl", "path": "/proc/nowhere/d.jsonl"},
    ]
    with_them, without = ([mean_s(outputs) for _ in range(3)] for outputs in (down, []))

    assert statistics.median(with_them) < statistics.median(without) + 0.01, "of 40 ms from frame to frame"
