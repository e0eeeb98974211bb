"""The page behind a real nginx, set up by `deploy/nginx/culling.conf`: below /culling/, over TLS, by password."""

from __future__ import annotations

import base64
import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.common.wire.messages import Desired, Welcome
from support.browser import Browser, needs_chromium
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, camera_state, hello
from support.nginx import HOST, PASSWORD, USER, Nginx, needs_nginx
from support.showcase import Showcase
from support.site import free_port
from support.waiting import wait_until

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Proxied:
    """A service that says how browsers know its page, nginx in front of it, and an edge."""

    def __init__(self, folder: Path) -> None:
        page = {"port": free_port(), "actions": True, "names": [HOST], "root_path": "/culling"}
        self.cloud = CloudState(folder, schedule={"hold": True}, page=page)
        self.fleet = Showcase(self.cloud, [CAMERA])
        self.fleet.add_frames(CAMERA, 2, time.time())
        self.service = ServiceProcess(self.cloud)
        (folder / "nginx").mkdir()
        self.nginx = Nginx(folder / "nginx", page["port"])  # type: ignore[arg-type]
        self.edge = Edge(self.service.endpoint, self.cloud.keys.curve_public, self.fleet.secrets[0])
        self.edge.ask(hello(camera_state()), Welcome)
        self.token = (self.cloud.data_dir / "page.token").read_text().strip()

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
        """Ask nginx, as a client of its host."""
        context = ssl.create_default_context(cafile=str(self.nginx.folder / "cert.pem"))
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", self.nginx.port, timeout=20, context=context)
        sent = {"Host": f"{HOST}:{self.nginx.port}", "Authorization": BASIC, **headers}
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in sent.items()})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def act(self, **headers: str) -> int:
        body = b'{"kind": "frame", "camera": "gate"}'
        sent = {"Content-Type": "application/json", "X-Culling-Token": self.token, **headers}
        return int(self.ask("/culling/api/actions", "POST", body, **sent).status)

    def close(self) -> None:
        self.edge.close()
        self.nginx.close()
        self.service.kill()
        self.fleet.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    found = Proxied(tmp_path_factory.mktemp("proxied"))
    yield found
    found.close()


@needs_nginx
@needs_chromium
def test_a_browser_reads_and_acts_below_the_path_of_a_proxy(proxied: Proxied) -> None:
    url = proxied.nginx.url
    browser = Browser(url.replace("://", f"://{USER}:{PASSWORD}@"), hosts=HOST)
    try:
        browser.driver.get(f"{url}")  # without the password, which the browser has kept, and without the last slash
        browser.wait(lambda: browser.run("return location.href") == f"{url}/")
        browser.wait(lambda: browser.count(f"[data-camera={CAMERA}]"))  # the stream
        proxied.edge.send(hello(camera_state(seen=4321)))
        browser.wait(lambda: browser.run("return state.cameras.get('gate')?.seen") == 4321)
        browser.go(f"camera/{CAMERA}/frames")
        loaded = "return [...document.images].filter(one => one.complete && one.naturalWidth === 320).length"
        browser.wait(lambda: browser.run(loaded) == 2)
        browser.click("unlock …")
        browser.run("document.querySelector('dialog input').value = arguments[0]", proxied.token)
        browser.click("ok")
        browser.click("pause forwarding")
        browser.click("ok")
        paused = False
        while not paused:  # what was wanted before comes with the welcome
            desired, _ = proxied.edge.receive(Desired, within_s=30, beat=hello(camera_state(seen=4321)))
            assert desired.camera == CAMERA
            paused = desired.paused
        browser.wait(lambda: browser.text(".answer").startswith("pause: "))
        asked = browser.loaded()
        assert {one for one in asked if "@" not in one and not one.startswith((f"{url}/", "data:"))} <= {url}
    finally:
        browser.close()


@needs_nginx
def test_without_the_proxys_password_nothing_is_seen(proxied: Proxied) -> None:
    for path in ("/culling/", "/culling/events", "/culling/api/fleet"):
        assert proxied.ask(path, Authorization="").status == 401
    assert proxied.ask("/culling/api/fleet").status == 200


@needs_nginx
def test_who_may_act_is_the_same_behind_the_proxy(proxied: Proxied) -> None:
    assert proxied.act(Origin=f"https://{HOST}:{proxied.nginx.port}") == 202
    host = f"localhost:{proxied.nginx.port}"  # no name of `page.names`: the page and the host asked agree, port and all
    assert proxied.act(Host=host, Origin=f"https://{host}") == 202
    assert proxied.act(Host=host, Origin="https://localhost:1") == 403
    assert proxied.act(Origin="https://elsewhere.example") == 403
    assert proxied.act(**{"X-Culling-Token": "wrong"}) == 401
    assert proxied.act(**{"X-Culling-Token": ""}) == 401


@needs_nginx
def test_the_log_names_the_client_that_the_proxy_saw_not_the_one_that_it_claims_to_be(proxied: Proxied) -> None:
    before = proxied.service.log().count("request_entered")
    assert proxied.act(X_Forwarded_For="203.0.113.9", X_Forwarded_Host="elsewhere.example") == 202
    wait_until(lambda: proxied.service.log().count("request_entered") > before)
    assert "203.0.113.9" not in proxied.service.log()
    *_, line = [one for one in proxied.service.log().splitlines() if "request_entered" in one]
    assert "127.0.0.1" in line
