"""The page behind a real nginx that asks who it is, set up by `deploy/nginx/culling-oidc.conf`.

What stands for oauth2-proxy answers as it does with `--set-authorization-header`: by a cookie, with the ID token.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.page.dashboard import Dashboard
from culling.common.metrics import Metrics
from support.browser import Browser, needs_chromium
from support.cloud import CloudState, camera_state
from support.http import answering, send
from support.nginx import HOST, Nginx, needs_nginx
from support.people import Provider
from support.waiting import wait_until


class SignedIn:
    """A page of two sites, and nginx in front of it; the cookie `groups` says in which groups anna is."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider(folder)
        page = {"port": 0, "actions": True, "names": [HOST], "root_path": "/culling"}
        sites = {"yard": {"edges": ["edge-1"]}, "bank": {"edges": ["edge-2"]}}
        self.cloud = CloudState(folder, page=page, sites=sites, access=self.provider.settings())
        self.cloud.enroll("gate", edge="edge-1")
        self.cloud.enroll("vault", edge="edge-2")
        told = {name: (camera_state(name), self.cloud.clock.now()) for name in ("gate", "vault")}
        state = (self.cloud.settings, self.cloud.index, self.cloud.frames)
        self.page = Dashboard(*state, lambda: told, self.cloud.clock, Metrics(CollectorRegistry(), "cloud"))
        self._gate = answering(self._answer)
        asked, port = self._gate.__enter__().url, int(self.page.url.rpartition(":")[2].partition("/")[0])
        (folder / "nginx").mkdir()
        self.nginx = Nginx(folder / "nginx", port, "culling-oidc.conf", port_4180=int(asked.rpartition(":")[2]))
        wait_until(lambda: len(self.cameras(Cookie="groups=owners")) == 2)

    def _answer(self, to: BaseHTTPRequestHandler) -> None:
        kind, _, groups = (to.headers.get("Cookie") or "").partition("=")
        if to.path != "/oauth2/auth":
            send(to, 200, "text/html", b"sign in")
        elif kind != "groups":
            send(to, 401, "text/plain", b"")
        else:
            send(to, 202, "text/plain", b"", Authorization=f"Bearer {self.provider.sign(*groups.split('+'))}")

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self.nginx.folder / "cert.pem"))
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", self.nginx.port, timeout=20, context=context)
        data = None if body is None else json.dumps(body).encode()
        sent = {"Host": f"{HOST}:{self.nginx.port}", "Content-Type": "application/json", **headers}
        connection.request(method, f"/culling{path}", data, sent)
        answer = connection.getresponse()
        found = (answer.status, answer.read())
        connection.close()
        return found

    def cameras(self, **headers: str) -> list[str]:
        return [row["camera"] for row in json.loads(self.ask("/api/fleet", **headers)[1])["cameras"]]

    def close(self) -> None:
        self.nginx.close()
        self._gate.__exit__(None, None, None)
        self.page.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    found = SignedIn(tmp_path_factory.mktemp("signed"))
    yield found
    found.close()


@needs_nginx
def test_whoever_signs_in_sees_its_own_site(site: SignedIn) -> None:
    assert site.cameras(Cookie="groups=guards") == ["gate"]
    assert site.cameras(Cookie="groups=owners") == ["gate", "vault"]
    assert site.ask("/api/cameras/vault", Cookie="groups=guards")[0] == 404
    assert site.ask("/api/fleet", Cookie="groups=strangers")[0] == 403


@needs_nginx
def test_whoever_does_not_is_asked_to(site: SignedIn) -> None:
    for path in ("/", "/events", "/api/fleet"):
        assert site.ask(path) == (403, b"sign in")


@needs_nginx
def test_what_a_client_says_of_itself_does_not_reach_the_page(site: SignedIn) -> None:
    owner = f"Bearer {site.provider.sign('owners')}"
    claims = {"Authorization": owner, "X-Forwarded-User": "boss", "X-Forwarded-Groups": "owners"}
    assert site.cameras(Cookie="groups=guards", **claims) == ["gate"]
    assert site.ask("/api/fleet", **claims)[0] == 403


@needs_nginx
def test_an_operator_acts_on_its_site_and_is_named(site: SignedIn) -> None:
    def act(camera: str, **headers: str) -> int:
        return site.ask("/api/actions", "POST", {"kind": "pause", "camera": camera}, **headers)[0]

    ours = f"https://{HOST}:{site.nginx.port}"
    assert act("gate", Cookie="groups=guards", Origin=ours) == 202
    assert act("gate", Cookie="groups=guards", Origin="https://elsewhere.example") == 403
    assert act("gate", Cookie="groups=lookers", Origin=ours) == 403
    assert act("vault", Cookie="groups=guards", Origin=ours) == 422
    told = json.loads(site.ask("/api/deeds", Cookie="groups=owners")[1])
    assert [(row["who"], row["camera"], row["outcome"]) for row in told if row["action"] == "pause"] == [
        ("anna@example.org", "gate", "refused"),
        ("anna@example.org", "gate", "asked"),
    ]


@needs_nginx
@needs_chromium
def test_a_browser_shows_sites_and_offers_what_one_may(site: SignedIn) -> None:
    ours = {"Cookie": "groups=owners", "Origin": f"https://{HOST}:{site.nginx.port}"}
    assert site.ask("/api/actions", "POST", {"kind": "unhold", "camera": "gate"}, **ours)[0] == 202
    browser = Browser(site.nginx.url, hosts=HOST)
    try:
        browser.driver.add_cookie({"name": "groups", "value": "owners"})
        browser.driver.get(f"{site.nginx.url}/")
        browser.wait(lambda: browser.count("[data-camera]") == 2)
        heads = "return [...document.querySelectorAll('h2.group')].map(one => one.textContent.split(':')[0]).sort()"
        browser.wait(lambda: browser.run(heads) == ["bank", "yard"])
        browser.go("audit")
        browser.wait(lambda: "anna@example.org" in browser.text("table"))
        browser.driver.add_cookie({"name": "groups", "value": "guards"})
        browser.driver.get(f"{site.nginx.url}/")
        browser.wait(lambda: browser.count("[data-camera]") == 1)
        assert "who did what" not in browser.text("#crumbs")
        browser.go("camera/gate")
        browser.click("hold rounds")  # without a token
        browser.wait(lambda: "hold: request" in browser.text(".answer"), 40)
        assert [line for line in browser.complaints() if "favicon" not in line and "403" not in line] == []
    finally:
        browser.close()
