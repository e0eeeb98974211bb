"""A13: signals at any time, once or twice. Both sides end as documented, soon, whole, and leave no child behind."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from culling.cloud.page.views import endpoint as endpoint_of
from culling.cloud.store.fsck import fsck
from support.cloud import CloudState, ServiceProcess
from support.fleet import Fleet
from support.forms import Tell, forms
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.fault
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DRAIN_S = 10.0


@forms("ends", fast=3, full=60)
def test_a13_a_service_that_is_told_to_end_ends_whole(
    ends: int, tmp_path: Path, new_fleet: Callable[..., Fleet], tell: Tell
) -> None:
    chance = random.Random(13)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    cloud = CloudState(
        tmp_path, service={"endpoint": endpoint}, schedule={"min_new": 10, "least": 4}, round={"kept": 5}
    )
    fleet = new_fleet(cloud, endpoint, 2)
    slowest, children = 0.0, 0
    for end in range(ends):
        with ServiceProcess(cloud) as service:
            for edge in fleet.edges:
                edge.make(20)
            fleet.run(lambda: all(edge.greeted for edge in fleet.edges), 60)
            fleet.run_for(chance.uniform(0, 3.0))
            below = psutil.Process(service.process.pid).children(recursive=True)
            children += len(below)
            began = time.monotonic()
            service.process.send_signal(SIGNALS[end % 3])
            if end % 2:
                time.sleep(chance.uniform(0, 0.3))
                service.process.send_signal(SIGNALS[(end + 1) % 3])
            code = service.process.wait(60)
            if code != 0:  # the second signal ends it at once; Python lets go of its handlers before it ends itself
                assert end % 2
                second = SIGNALS[(end + 1) % 3]
                assert code in (128 + second, -second)
            slowest = max(slowest, time.monotonic() - began)
        wait_until(lambda gone=below: not any(child.is_running() for child in gone))
        assert fsck(cloud.settings).open == ()
        assert endpoint_of(cloud.data_dir) is None
    tell("A13 cloud", ends=ends, slowest_s=slowest, rounds_interrupted=children)
    assert slowest <= DRAIN_S
    cloud.close()


@forms("ends", fast=3, full=60)
def test_a13_an_agent_that_is_told_to_end_ends_whole_whenever_it_is(
    ends: int, tmp_path: Path, new_site: Callable[..., Site], tell: Tell
) -> None:
    chance = random.Random(31)
    moving_clip(tmp_path / "clip.mp4", 40)
    site = new_site(tmp_path, f"tcp://127.0.0.1:{free_port()}")
    site.install_student()
    site.settings["camera"][0]["loop"] = True
    site.settings["agent"]["drain_s"] = 2.0
    codes: list[int] = []
    slowest = 0.0
    for end in range(ends):
        logged = len(site.log()) if end else 0
        agent = site.start(whole=True)  # it may be told so while it imports
        number = SIGNALS[end % 2]
        time.sleep(chance.uniform(0.0, 3.0))
        if end % 3 == 2 and "agent_started" in site.log()[logged:]:
            agent.send_signal(signal.SIGHUP)  # it reads its settings anew, and goes on
        began = time.monotonic()
        agent.send_signal(number)
        codes.append(agent.wait(60))
        slowest = max(slowest, time.monotonic() - began)
        started = "agent_started" in site.log()[logged:]
        assert codes[-1] in ((0,) if started else (0, 128 + number, -number)), site.log()[-3000:]
        assert "process_crashed" not in site.log(), "a signal is no crash"
        assert not list((tmp_path / "state").rglob("*.corrupt*"))
    tell("A13 edge", ends=ends, slowest_s=slowest, codes=sorted(codes))
    assert slowest <= DRAIN_S
    site.settings["camera"][0]["loop"] = False
    site.settings["agent"]["exit_when_done"] = True
    assert site.start().wait(60) == 0
    assert "moved_aside" not in site.log()
