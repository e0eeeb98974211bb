from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.page.board import Board, Told
from culling.cloud.page.dashboard import Dashboard
from culling.common import logs
from culling.common.clock import SystemClock
from culling.common.errors import SettingsError
from culling.common.metrics import Metrics
from culling.common.page.assemble import assemble
from support.cloud import CAMERA, CloudState, camera_state, hard_frame
from support.colours import contrast, themes
from support.http import Stream, fetch
from support.waiting import wait_until

WEIGHT_LIMIT = 250_000
PAGE = "culling.cloud.page"


class Served:
    """A real page over a real index; what its edges said stands in `told`."""

    def __init__(self, folder: Path, **page: Any) -> None:
        self.cloud = CloudState(folder, page={"port": 0, **page})
        self.cloud.enroll()
        self.told: dict[str, Told] = {}
        self.clock = SystemClock()
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        self.page = Dashboard(
            self.cloud.settings, self.cloud.index, self.cloud.frames, lambda: self.told, self.clock, self.metrics
        )
        self.url = self.page.url
        self.token = (self.cloud.data_dir / "page.token").read_text().strip()

    def tell(self, **changes: Any) -> None:
        self.told = {CAMERA: (camera_state(**changes), self.clock.now())}

    def act(self, body: Any, **headers: str) -> Any:
        return fetch(f"{self.url}/api/actions", "POST", body, **{"Authorization": f"Bearer {self.token}", **headers})

    def close(self) -> None:
        self.page.close()
        self.cloud.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path, actions=True)
    yield found
    found.close()


# What is shown


def test_the_page_is_one_piece_and_light(served: Served) -> None:
    page = fetch(f"{served.url}/")
    assert page.status == 200
    assert len(page.body) < WEIGHT_LIMIT
    for elsewhere in (b"http://", b"https://", b"src=", b"@import", b"url("):
        assert elsewhere not in page.body.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize("ground", ["ground", "panel"])
def test_a_time_without_a_word_can_be_told_from_its_ground(ground: str) -> None:
    for named in themes(assemble(PAGE)[0].decode()):
        assert contrast(named["gap"], named[ground]) >= 3  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("word", ["text", "soft", "good", "warn", "bad", "link"])
def test_every_colour_of_words_can_be_read_on_its_ground(word: str) -> None:
    for named in themes(assemble(PAGE)[0].decode()):
        for ground in ("ground", "panel"):
            assert contrast(named[word], named[ground]) >= 4.5, f"{word} on {ground}"  # WCAG 2.2, 1.4.3


def test_the_browser_is_told_to_run_nothing_else(served: Served) -> None:
    policy = fetch(f"{served.url}/").headers["content-security-policy"]
    assert policy == assemble(PAGE)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_watcher_gets_everything_then_what_changes(served: Served) -> None:
    stream = Stream(served.url)
    everything = stream.next()
    while not everything["cameras"]:
        everything = stream.next()
    assert [row["state"] for row in everything["cameras"]] == ["unseen"]
    served.tell(seen=100)
    assert [row["seen"] for row in stream.next()["cameras"]] == [100]
    stream.close()


def test_a_refresh_that_breaks_is_counted_and_the_page_goes_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Board.refresh
    broken = [True]

    def refresh(board: Board) -> bool:
        if broken:
            broken.clear()
            raise RuntimeError("dictionary changed size during iteration")
        return whole(board)

    monkeypatch.setattr(Board, "refresh", refresh)
    wait_until(lambda: served.metrics.total("items_failed", loop="page") == 1)
    served.tell(seen=123)
    wait_until(lambda: [row["seen"] for row in fetch(f"{served.url}/api/fleet").json()["cameras"]] == [123])


def test_whoever_comes_when_all_places_are_taken_is_asked_to_come_again(tmp_path: Path) -> None:
    served = Served(tmp_path, streams=2)
    streams = [Stream(served.url) for _ in range(2)]
    assert [stream.next()["all"] for stream in streams] == [True, True]
    late = fetch(f"{served.url}/events")
    assert (late.status, late.headers["retry-after"]) == (503, "5")
    streams[0].close()
    wait_until(lambda: place_is_free(served))
    streams[1].close()
    served.close()


def place_is_free(served: Served) -> bool:
    stream = Stream(served.url)
    served.tell(seen=int(served.clock.now()) % 1000)
    stream.close()
    return stream.status == 200


@pytest.mark.parametrize("path", ["", "/frames", "/models"])
def test_one_camera_can_be_looked_at(served: Served, path: str) -> None:
    frame, jpeg = hard_frame()
    served.cloud.frames.add("e" * 40, frame, jpeg)
    assert fetch(f"{served.url}/api/cameras/{CAMERA}{path}").status == 200
    assert fetch(f"{served.url}/api/rounds?camera={CAMERA}").json() == []


def test_a_camera_that_is_not_there_is_one_line(served: Served) -> None:
    answer = fetch(f"{served.url}/api/cameras/yard")
    assert (answer.status, answer.json()) == (404, {"error": "there is no camera yard: see `culling cloud status`"})


def test_a_hard_frame_is_shown_as_it_was_stored(served: Served) -> None:
    frame, jpeg = hard_frame()
    served.cloud.frames.add("e" * 40, frame, jpeg)
    (row,) = fetch(f"{served.url}/api/cameras/{CAMERA}/frames").json()
    picture = fetch(f"{served.url}/api/frames/{row['id']}.jpg")
    assert (picture.status, picture.body, picture.headers["content-type"]) == (200, jpeg, "image/jpeg")


@pytest.mark.parametrize("name", ["0" * 32, "..%2f..%2fpage.token", "%2e%2e", "gate/../../page"])
def test_no_other_file_can_be_had(served: Served, name: str) -> None:
    assert fetch(f"{served.url}/api/frames/{name}.jpg").status in (404, 422)


def test_a_damaged_picture_is_not_shown(served: Served) -> None:
    frame, jpeg = hard_frame()
    served.cloud.frames.add("e" * 40, frame, jpeg)
    (row,) = fetch(f"{served.url}/api/cameras/{CAMERA}/frames").json()
    served.cloud.frames.path(CAMERA, row["id"]).write_bytes(b"\xff\xd8 something else")
    assert fetch(f"{served.url}/api/frames/{row['id']}.jpg").status == 404


# Who may act


def test_an_action_is_entered_as_a_request(served: Served) -> None:
    answer = served.act({"kind": "budget", "camera": CAMERA, "frames_per_window": 7})
    assert answer.status == 202
    (request,) = served.cloud.requests.open()
    assert (request.id, request.kind, request.payload) == (answer.json()["request"], "budget", {"frames_per_window": 7})
    told = fetch(f"{served.url}/api/requests/{request.id}").json()
    assert told == {"done": False, "ok": False, "answer": ""}


@pytest.mark.parametrize(("number", "status"), [(999999, 404), (2**63, 422), (10**22, 422), (0, 422), ("x", 422)])
def test_a_request_that_nobody_made_is_not_there(served: Served, number: Any, status: int) -> None:
    assert fetch(f"{served.url}/api/requests/{number}").status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic Z2F0ZQ=="}, 401),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "elsewhere.example"}, 400),
    ],
)
def test_nobody_acts_without_token_or_from_another_site(served: Served, headers: dict[str, str], status: int) -> None:
    assert served.act({"kind": "pause", "camera": CAMERA}, **headers).status == status
    assert served.cloud.requests.open() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "renew", "camera": CAMERA}, 422),
        ({"kind": "pause", "camera": "yard"}, 422),
        ({"kind": "publish", "camera": CAMERA}, 422),
        ({"kind": "publish", "camera": CAMERA, "sha256": "0" * 64}, 422),
        ({"kind": "budget", "camera": CAMERA, "frames_per_window": -1}, 422),
        (b"{", 422),
        (b" " * 5000, 413),
    ],
)
def test_what_makes_no_sense_is_refused(served: Served, body: Any, status: int) -> None:
    assert served.act(body).status == status
    assert served.cloud.requests.open() == []


def test_it_only_shows_unless_told_otherwise(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert fetch(f"{served.url}/api/actions").json() == {"actions": False}
    assert served.act({"kind": "pause", "camera": CAMERA}).status == 403
    served.close()


@pytest.mark.parametrize("stripped", [True, False], ids=["the proxy strips the path", "the proxy leaves it"])
def test_it_is_served_below_the_path_of_a_proxy(tmp_path: Path, stripped: bool) -> None:
    served = Served(tmp_path, root_path="/sub/culling", names=["wall.example"], actions=True)
    root = served.url.removesuffix("/sub/culling") if stripped else served.url
    try:
        assert b'new EventSource("events")' in fetch(f"{root}/").body
        assert fetch(f"{root}/api/fleet").status == 200
        assert fetch(f"{root}/api/frames/{'0' * 32}.jpg").status == 404
        body, sent = (
            {"kind": "pause", "camera": CAMERA},
            {"Host": "wall.example", "Origin": "https://wall.example:8443"},
        )
        assert fetch(f"{root}/api/actions", "POST", body, X_Culling_Token=served.token, **sent).status == 202
    finally:
        served.close()


def test_a_path_without_its_last_slash_leads_to_the_page_wherever_the_proxy_says_it_is(tmp_path: Path) -> None:
    served = Served(tmp_path, root_path="/culling")
    claims = {"X_Forwarded_Host": "elsewhere.example", "X_Forwarded_Prefix": "/elsewhere", "X_Forwarded_Proto": "ftp"}
    try:
        answer = fetch(served.url, **claims)
        assert (answer.status, answer.headers["location"]) == (307, "/culling/")
        assert "location" not in fetch(f"{served.url}/api/fleet/", **claims).headers
        assert b"elsewhere" not in fetch(f"{served.url}/", **claims).body
    finally:
        served.close()


@pytest.mark.parametrize(("proxies", "client"), [(["127.0.0.0/8"], "203.0.113.9"), (["10.0.0.1"], "127.0.0.1")])
def test_who_asked_is_believed_of_known_proxies_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], proxies: list[str], client: str
) -> None:
    logs.setup("info")
    served = Served(tmp_path, proxies=proxies, actions=True)
    try:
        assert served.act({"kind": "pause", "camera": CAMERA}, X_Forwarded_For="203.0.113.9").status == 202
        assert f'"client": "{client}"' in capsys.readouterr().err
    finally:
        served.close()


def test_a_proxys_password_is_no_token(served: Served) -> None:
    assert fetch(f"{served.url}/api/actions", Authorization="Basic Z2F0ZQ==").json() == {"actions": True}
    assert fetch(f"{served.url}/api/actions", X_Culling_Token="wrong").status == 401
    both = {"Authorization": "Basic Z2F0ZQ==", "X_Culling_Token": served.token}
    assert fetch(f"{served.url}/api/actions", **both).json() == {"actions": True}


@pytest.mark.parametrize(
    ("key", "value"), [("root_path", "culling"), ("root_path", "/culling/"), ("proxies", ["ours"])]
)
def test_what_is_no_path_and_no_address_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"page\.{key}"):
        CloudState(tmp_path, page={key: value})


def test_it_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    served = Served(tmp_path, names=["wall.example"])
    assert fetch(f"{served.url}/", Host="wall.example").status == 200
    assert fetch(f"{served.url}/", Host="rebound.example").status == 400
    served.close()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_that_is_taken_is_named(tmp_path: Path, host: str, family: socket.AddressFamily) -> None:
    taken = socket.create_server((host, 0), family=family)
    with taken, pytest.raises(SettingsError, match=r"page\.port") as refused:
        Served(tmp_path, host=host, port=taken.getsockname()[1])
    assert refused.value.exit_code == 2  # a wrong setting, and no peer that refuses


def test_the_page_is_served_over_ipv6_too(tmp_path: Path) -> None:
    served = Served(tmp_path, host="[::1]")
    try:
        assert served.url.startswith("http://[::1]:")
        assert fetch(f"{served.url}/").status == 200
        assert fetch(f"{served.url}/", Host="[fd00::7]").status == 400
    finally:
        served.close()
