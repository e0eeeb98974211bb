"""An edge that its cloud refuses, and one whose cloud is away: what each says, and how it ends."""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.common.cli import main
from support.cloud import CloudState, ServiceProcess
from support.http import fetch
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

DRAIN_S = 10.0


class Linked:
    """A service, and an agent that is linked to it and has frames to send; its settings are the defaults."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder, schedule={"hold": True})
        secret = self.cloud.enroll()
        self.service = ServiceProcess(self.cloud)
        self.site = Site(folder, self.service.endpoint)
        self.site.signing = self.cloud.keys.signing
        self.site.settings["cloud"] |= {
            "server_key": self.cloud.keys.curve_public,
            "secret_key": secret,
            "signing_keys": [base64.b64encode(self.site.signing.public_key().public_bytes_raw()).decode()],
        }
        del self.site.settings["agent"]["drain_s"]
        self.site.settings["camera"][0]["loop"] = True
        self.site.settings["metrics"] = {"port": free_port()}
        self.site.settings["selector"] = {
            "frames_per_window": 400, "window_s": 2.0, "spacing_s": 0.0, "duplicate_change": 0.0,
        }  # fmt: skip
        moving_clip(folder / "clip.mp4")
        self.site.install_student()
        self.agent = self.site.start()
        wait_until(lambda: "culling_connected 1.0" in self.metrics())
        wait_until(lambda: self.get("readyz") == (200, "detecting"))

    def get(self, page: str) -> tuple[int, str]:
        try:
            answer = fetch(f"http://127.0.0.1:{self.site.settings['metrics']['port']}/{page}")
        except OSError:
            return 0, ""
        return answer.status, answer.body.decode().strip()

    def metrics(self) -> str:
        return self.get("metrics")[1]

    def ends_within(self) -> float:
        """Tell the agent to end; return the seconds that it took."""
        began = time.monotonic()
        self.agent.send_signal(signal.SIGTERM)
        assert self.agent.wait(60) == 0
        return time.monotonic() - began

    def close(self) -> None:
        self.site.close()
        self.service.kill()
        self.cloud.close()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Linked]:
    linked = Linked(tmp_path)
    yield linked
    linked.close()


def test_a_revoked_edge_reads_refused_everywhere_and_ends_in_time(
    linked: Linked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cloud", "revoke", "edge-1", "--config", str(linked.cloud.toml)]) == 0

    wait_until(lambda: "culling_refused 1.0" in linked.metrics())

    config = ["--config", str(linked.site.folder / "edge.toml")]
    assert "culling_connected 0.0" in linked.metrics()
    assert 'culling_refusals_total{reason="revoked"}' in linked.metrics()
    status, text = linked.get("readyz")
    assert status == 503
    assert text.startswith("refused by the cloud: this edge was revoked")
    assert "it detects" in text
    capsys.readouterr()
    assert main(["edge", "status", *config]) == 0
    assert "refused by the cloud" in capsys.readouterr().out
    assert main(["edge", "check", *config]) == 6
    assert "refused by the cloud" in capsys.readouterr().out
    seconds = linked.ends_within()
    print(f"revoked: ended in {seconds:.1f} s")
    assert seconds < DRAIN_S


def test_an_agent_whose_cloud_is_away_is_ready_and_ends_in_time(linked: Linked) -> None:
    linked.service.kill()
    wait_until(lambda: "culling_connected 0.0" in linked.metrics())
    wait_until(lambda: "culling_oldest_unacked_seconds 0.0" not in linked.metrics())

    assert "culling_refused 0.0" in linked.metrics()
    assert linked.get("readyz") == (200, "detecting")
    seconds = linked.ends_within()
    print(f"away: ended in {seconds:.1f} s")
    assert seconds < DRAIN_S
