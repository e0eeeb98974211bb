"""The live picture through the cloud's page: a real edge, a real cloud, a real browser."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.common.wire.messages import CameraState
from culling.edge.status import fetch
from support.browser import Browser, needs_chromium
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = [needs_chromium, pytest.mark.timeout(300)]

PICTURE = "return document.querySelector('.look .pic img')?.src ?? ''"
SENT = f'culling_live_pictures_sent_total{{camera="{CAMERA}"}}'


class Looking:
    """A service with a page, an agent that plays a clip over and over, and a browser."""

    def __init__(self, folder: Path, **view: Any) -> None:
        self.cloud = CloudState(folder, schedule={"hold": True}, page={"port": free_port()})
        secret = self.cloud.enroll()
        self.service = ServiceProcess(self.cloud)
        self.site = Site(folder, self.service.endpoint)
        self.site.signing = self.cloud.keys.signing
        key = base64.b64encode(self.site.signing.public_key().public_bytes_raw()).decode()
        told = {"server_key": self.cloud.keys.curve_public, "secret_key": secret, "signing_keys": [key]}
        self.site.settings["cloud"] |= told
        self.site.settings["camera"][0]["loop"] = True
        self.site.settings["metrics"] = {"port": free_port()}
        self.site.settings["view"] = view
        moving_clip(folder / "clip.mp4", frames=120)
        self.site.install_student()
        self.site.start()
        wait_until(lambda: (state := self.state()) is not None and state.inferred > 0, 120)
        self.browser = Browser((self.cloud.data_dir / "page").read_text().strip())
        self.browser.go(f"camera/{CAMERA}")

    def state(self) -> CameraState | None:
        return self.cloud.roster.rows()[0].state

    def sent(self) -> float:
        """Return how many live pictures the agent has sent."""
        lines = fetch("127.0.0.1", self.site.settings["metrics"]["port"]).splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(SENT))

    def picture(self) -> str:
        return str(self.browser.run(PICTURE))

    def close(self) -> None:
        self.browser.close()
        self.site.close()
        self.service.kill()
        self.cloud.close()


@pytest.fixture
def looking(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Looking]:
    found = Looking(tmp_path, **getattr(request, "param", {}))
    yield found
    found.close()


@pytest.mark.parametrize("looking", [{"through_cloud": True}], indirect=True)
def test_the_live_picture_moves_on_the_clouds_page_while_somebody_looks_and_no_longer(looking: Looking) -> None:
    browser = looking.browser
    browser.wait(lambda: browser.count(".choice button"))
    assert looking.sent() == 0, "nobody has looked yet"

    browser.click("live")
    seen: set[str] = set()
    browser.wait(lambda: (now := looking.picture()).startswith("data:image/jpeg") and (seen.add(now) or len(seen) >= 3))
    assert browser.text(".look .small").startswith("Live, at ")
    browser.wait(lambda: browser.count(".look .pic svg rect.s"))
    state = looking.state()
    assert state is not None
    assert state.through_cloud

    browser.click("last hard frame")
    browser.wait(lambda: not looking.picture().startswith("data:"))
    settled = [looking.sent()]
    wait_until(lambda: (settled.append(looking.sent()) or len(set(settled[-40:])) == 1) and len(settled) > 40)
    assert browser.complaints() == []


def test_an_edge_that_does_not_allow_it_is_told_of_in_a_sentence_and_sends_nothing(looking: Looking) -> None:
    browser = looking.browser
    browser.wait(lambda: browser.count(".choice button"))
    browser.click("live")
    browser.wait(lambda: "set view.through_cloud = true" in browser.text(".look .pic"))
    assert "http://127.0.0.1:9467" in browser.text(".look .pic")
    assert looking.sent() == 0
    browser.click("last hard frame")
    browser.wait(lambda: "No live picture" not in browser.text(".look .pic"))
