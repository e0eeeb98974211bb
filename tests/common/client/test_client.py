"""The client against a real page, and the example that uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.actions import carry_out
from culling.cloud.page.dashboard import Dashboard
from culling.cloud.store.people.deeds import operator
from culling.cloud.store.people.tokens import Tokens
from culling.common.client import Client
from culling.common.errors import CullingError, InputError, StorageError
from culling.common.metrics import Metrics
from support.cloud import CAMERA, CloudState, camera_state, hard_frame
from support.http import answering, send
from support.site import free_port
from support.waiting import wait_until

EXAMPLE = Path(__file__).parents[3] / "examples" / "start_rounds.py"


@dataclass
class Site:
    cloud: CloudState
    url: str
    secret: str

    @property
    def client(self) -> Client:
        return Client(self.url, self.secret)

    def carry_out_next(self) -> threading.Thread:
        """Do what the service does, once something is asked for."""

        def work() -> None:
            wait_until(lambda: bool(self.cloud.requests.open()))
            [request] = self.cloud.requests.open()
            try:
                text, failed = carry_out(request, self.cloud.index, self.cloud.publisher), False
            except CullingError as error:
                text, failed = str(error), True
            self.cloud.requests.answer(request.id, text, failed, 1.0)

        thread = threading.Thread(target=work)
        thread.start()
        return thread


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    cloud = CloudState(tmp_path, page={"port": 0, "actions": True})
    cloud.enroll()
    now = cloud.clock.now()
    secret = Tokens(cloud.index).create("program", "admin", [], operator(), now, now + 600)
    state = (cloud.settings, cloud.index, cloud.frames)
    told = {CAMERA: (camera_state(), now)}
    page = Dashboard(*state, lambda: told, cloud.clock, Metrics(CollectorRegistry(), "cloud"))
    found = Site(cloud, page.url, secret)
    wait_until(lambda: bool(found.client.fleet()))
    yield found
    page.close()
    cloud.close()


def test_it_reads_what_the_page_shows(site: Site) -> None:
    frame, jpeg = hard_frame()
    site.cloud.frames.add("e" * 40, frame, jpeg)
    client = site.client
    assert [row["camera"] for row in client.fleet()] == [CAMERA]
    assert client.camera(CAMERA)["row"]["edge"] == "edge-1"
    [row] = client.frames(CAMERA, labelled=False)
    assert client.picture(row["id"]) == jpeg
    assert client.frames(CAMERA, labelled=True) == []
    assert (client.rounds(CAMERA), client.models(CAMERA), client.me()["role"]) == ([], [], "admin")
    assert client.alerts().keys() == {"now", "before"}


def test_it_acts_and_waits_for_the_answer(site: Site) -> None:
    service = site.carry_out_next()
    assert site.client.pause(CAMERA) == f"{CAMERA} will stop forwarding frames"
    service.join()
    [pause, *_] = site.client.audit()
    assert (pause["who"], pause["action"], pause["outcome"]) == ("token program", "pause", "done")


def test_what_the_service_refuses_is_raised_with_its_words(site: Site) -> None:
    service = site.carry_out_next()
    with pytest.raises(CullingError, match="no live model to pin"):
        site.client.pin(CAMERA)
    service.join()
    with pytest.raises(InputError, match="there is no camera yard"):
        site.client.camera("yard")
    with pytest.raises(InputError, match="wrong token"):
        Client(site.url, "wrong").start_round(CAMERA)


def test_a_token_is_not_carried_elsewhere() -> None:
    with answering(lambda to: send(to, 200, "application/json", b"{}")) as elsewhere:
        moved = {"Location": f"{elsewhere.url}/sign-in"}
        with (
            answering(lambda to: send(to, 302, "text/html", b"", **moved)) as proxy,
            pytest.raises(InputError, match="302"),
        ):
            Client(proxy.url, "secret").fleet()
        assert elsewhere.asked == []


def test_a_service_that_is_not_there_is_told() -> None:
    with pytest.raises(StorageError, match="cannot be reached"):
        Client(f"http://127.0.0.1:{free_port()}").fleet()
    with pytest.raises(InputError, match="expected the page's address"):
        Client("cloud.example")


def test_the_example_runs(site: Site, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{site.secret}\n")
    command = [sys.executable, str(EXAMPLE), site.url, "--token-file", str(tmp_path / "token"), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{CAMERA}: fine\n"), done.stderr
