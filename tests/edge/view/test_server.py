"""Real HTTP against the view's own server; the camera path and the settings behind it are real, the agent is not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from culling.common.clock import SystemClock
from culling.common.errors import SettingsError
from culling.common.metrics import Metrics
from culling.common.page.assemble import assemble
from culling.edge.camera.camera import Frame
from culling.edge.output.sink import CameraNow
from culling.edge.settings import load_settings
from culling.edge.view.desk import Desk
from culling.edge.view.frames import LiveFrames
from culling.edge.view.server import MOST_BODY, ViewServer, listen
from culling.edge.view.settings import ViewSettings
from support.colours import contrast, themes
from support.http import Answer, fetch
from support.outputs import seen
from support.site import Site
from support.viewing import CROSSED, LEFT, unpacked
from support.waiting import wait_until

TOKEN = "right-token"
NONE: dict[str, Any] = {"mask": [], "ignore": [], "zone": []}
WEIGHT_LIMIT = 60_000


class Served:
    def __init__(self, folder: Path, **view: Any) -> None:
        settings = load_settings(Site(folder).write(), {})
        self.metrics, self.clock = Metrics(CollectorRegistry(), "edge"), SystemClock()
        self.settings = ViewSettings(enabled=True, port=0, **view)
        self.live = LiveFrames(self.settings, self.metrics, self.clock)
        self.cameras = [CameraNow("gate", "live", ("person",))]
        desk = Desk(lambda: settings, folder / "edge.toml")
        self.server = ViewServer(self.settings, TOKEN, self.live, desk, lambda: self.cameras, self.metrics, self.clock)
        self.url = self.server.url

    def get(self, path: str = "", **headers: str) -> Answer:
        return fetch(f"{self.url}/{path}", **{"X_Culling_Token": TOKEN, **headers})

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return fetch(f"{self.url}/{path}", "POST", body, **{"X_Culling_Token": TOKEN, **headers})

    def show(self, seq: int = 1) -> None:
        picture = av.VideoFrame.from_ndarray(np.full((128, 160, 3), 90, np.uint8), format="rgb24")
        self.live.offer(Frame("gate", seq, 0.0, 1e9, 0.0, picture), seen(seq, scores=[0.7]))

    def shown(self, path: str = "api/cameras/gate/live?last=0&viewer=test") -> Answer:
        """Return what a viewer gets who came before a frame did."""
        found: list[Answer] = []
        looking = threading.Thread(target=lambda: found.append(self.get(path)))
        looking.start()
        wait_until(lambda: self.live.wanted("gate"))
        self.show()
        looking.join(20)
        return found[0]

    def close(self) -> None:
        self.server.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.close()


# What is shown


def test_the_page_is_one_piece_and_light_and_holds_nothing_of_a_camera(served: Served) -> None:
    page = fetch(f"{served.url}/")
    assert page.status == 200
    assert len(page.body) < WEIGHT_LIMIT
    assert b"gate" not in page.body.replace(b"navigate", b"")
    assert page.headers["content-security-policy"] == assemble("culling.edge.view")[1]
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("word", ["text", "soft", "good", "bad", "link"])
def test_every_colour_of_words_can_be_read_on_its_ground(word: str) -> None:
    for named in themes(assemble("culling.edge.view")[0].decode()):
        for ground in ("ground", "panel"):
            assert contrast(named[word], named[ground]) >= 4.5, f"{word} on {ground}"  # WCAG 2.2, 1.4.3


def test_every_address_in_the_page_is_relative() -> None:
    page = assemble("culling.edge.view")[0].decode()
    assert '"/api' not in page
    assert "`/api" not in page
    assert page.count("api/cameras") == 4


def test_a_picture_comes_with_the_boxes_that_were_found_in_it(served: Served) -> None:
    head, picture = unpacked(served.shown())
    assert picture is not None
    assert picture.shape == (128, 160, 3)
    assert (head.number, head.width, head.height, head.state, head.why) == (1, 160, 128, "live", "")
    assert head.record is not None
    assert [(one.label, one.score) for one in head.record.detections] == [("person", 0.7)]


def test_where_no_picture_comes_it_is_said_why(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.edge.view.server.WAIT_S", 0.05)
    served.cameras = [CameraNow("gate", "connecting")]
    head, picture = unpacked(served.get("api/cameras/gate/live"))
    assert (head.number, picture) == (0, None)
    assert head.why == "The camera gives no picture: it is being opened, again and again until it answers."


def test_the_cameras_are_told_with_their_regions(served: Served) -> None:
    told = served.get("api/cameras").json()
    assert told == {
        "cameras": [{"name": "gate", "state": "live", "classes": ["person"], "regions": NONE}],
        "actions": False,
    }


def test_who_looks_is_counted_and_no_more_may_than_settings_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.edge.view.server.WAIT_S", 0.05)
    served = Served(tmp_path, viewers=2)
    for viewer in ("one", "two", "one"):
        assert served.get(f"api/cameras/gate/live?viewer={viewer}").status == 200
    late = served.get("api/cameras/gate/live?viewer=three")
    assert (late.status, late.json()) == (503, {"error": "2 browsers look already: try again later"})
    assert served.metrics.total("view_viewers") == 2
    served.close()


@pytest.mark.parametrize("path", ["api/cameras/yard/live", "api/nothing", "view.token", "api/cameras/gate/live/more"])
def test_what_there_is_not_is_one_line(served: Served, path: str) -> None:
    answer = served.get(path)
    assert answer.status == 404
    assert answer.json()["error"].startswith("there is no such")
    assert served.live._slots == {}


# Who may look


@pytest.mark.parametrize("headers", [{"X_Culling_Token": ""}, {"X_Culling_Token": "wrong"}, {"X_Culling_Token": "é"}])
@pytest.mark.parametrize("path", ["api/cameras", "api/cameras/gate/live"])
def test_nothing_of_a_camera_is_told_without_the_token(served: Served, path: str, headers: dict[str, str]) -> None:
    answer = served.get(path, **headers)
    assert answer.status == 401
    assert answer.json() == {"error": "wrong token: use the line in view.token of the state folder"}
    assert served.post("api/cameras/gate/check", NONE, **headers).status == 401


def test_a_token_may_come_as_a_bearer_too(served: Served) -> None:
    assert fetch(f"{served.url}/api/cameras", Authorization=f"Bearer {TOKEN}").status == 200


def test_on_loopback_settings_may_let_everybody_look_but_nobody_act(tmp_path: Path) -> None:
    served = Served(tmp_path, token=False, actions=True)
    assert fetch(f"{served.url}/api/cameras").status == 200
    body = {"regions": NONE, "before": NONE}
    assert fetch(f"{served.url}/api/cameras/gate/regions", "POST", body).status == 401
    served.close()


def test_it_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    served = Served(tmp_path, names=["wall.example"])
    for name in ("wall.example", "WALL.example:8443", "localhost:1", "[::1]:9467"):
        assert served.get(Host=name).status == 200, name
    for name in ("rebound.example", "127.0.0.1.rebound.example", ""):
        assert served.get("api/cameras", Host=name).status == 400, name
    served.close()


# What may be done


def test_drawn_regions_come_back_as_toml(served: Served) -> None:
    told = served.post("api/cameras/gate/check", {**NONE, "mask": [LEFT]}).json()["toml"]
    assert "mask = [[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]]" in told


def test_a_bad_polygon_gets_the_line_that_the_settings_give(served: Served, tmp_path: Path) -> None:
    answer = served.post("api/cameras/gate/check", {**NONE, "zone": [{"name": "yard", "polygon": CROSSED}]})
    site = Site(tmp_path)
    site.settings["camera"][0]["zone"] = [{"name": "yard", "polygon": CROSSED}]
    with pytest.raises(SettingsError) as refused:
        load_settings(site.write(), {})
    assert (answer.status, answer.json()) == (422, {"error": str(refused.value)})
    assert "camera.0.zone.0.polygon: the polygon crosses itself" in str(refused.value)


def test_a_view_that_only_shows_has_nobody_read_the_file_anew(served: Served) -> None:
    assert served.post("api/cameras/gate/reread", {}).status == 403


def test_of_a_file_that_is_written_and_not_in_force_the_page_is_told_so(tmp_path: Path) -> None:
    served = Served(tmp_path, actions=True)
    masked = {**NONE, "mask": [LEFT]}
    told = served.post("api/cameras/gate/regions", {"regions": masked, "before": NONE})
    assert (told.status, told.json()["written"]) == (503, True)  # no agent runs
    late = served.post("api/cameras/gate/regions", {"regions": masked, "before": masked})
    assert (late.status, list(late.json())) == (409, ["error"])
    assert served.post("api/cameras/gate/reread", {}).status == 409
    served.close()


def test_a_view_that_only_shows_writes_nothing(served: Served, tmp_path: Path) -> None:
    before = (tmp_path / "edge.toml").read_bytes()
    answer = served.post("api/cameras/gate/regions", {"regions": {**NONE, "mask": [LEFT]}, "before": NONE})
    assert answer.status == 403
    assert answer.json() == {"error": "this view only shows: set view.actions, or paste the TOML"}
    assert (tmp_path / "edge.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Length": "1000000000"}, 413),
        ({"X_Culling_Token": "wrong"}, 401),
    ],
)
def test_requests_from_elsewhere_or_of_another_form_are_refused(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    served = Served(tmp_path, actions=True)
    answer = served.post("api/cameras/gate/regions", {"regions": NONE, "before": NONE}, **headers)
    assert answer.status == status
    served.close()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"regions": 1, "before": 2}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_such_thing_is_one_line(tmp_path: Path, body: bytes) -> None:
    served = Served(tmp_path, actions=True)
    for path in ("check", "regions"):
        answer = served.post(f"api/cameras/gate/{path}", body, Content_Type="application/json")
        assert answer.status == 422
        assert "\n" not in answer.json()["error"]
    served.close()


def test_a_body_that_is_too_long_is_not_read(served: Served) -> None:
    assert served.post("api/cameras/gate/check", b" " * (MOST_BODY + 1)).status == 413


# Its life


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_that_is_taken_is_named(host: str, family: socket.AddressFamily) -> None:
    taken = socket.create_server((host, 0), family=family)
    with taken, pytest.raises(SettingsError, match=r"view\.host, view\.port: cannot listen on .*in use"):
        listen(ViewSettings(host=host, port=taken.getsockname()[1]))


def test_a_defect_is_counted_and_the_server_goes_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Desk, "regions", lambda desk, name: 1 / 0)
        assert served.get("api/cameras").status == 500
    assert served.metrics.total("items_failed", loop="view") == 1
    assert served.get("api/cameras").status == 200


def test_connections_that_say_nothing_take_no_more_threads_than_there_are_places(tmp_path: Path) -> None:
    served = Served(tmp_path, viewers=1)
    address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
    silent = [socket.create_connection(address) for _ in range(40)]
    wait_until(lambda: sum(_closed(one) for one in silent) >= 28)
    for one in silent:
        one.close()
    wait_until(lambda: _answers(served))
    served.close()


def _closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _answers(served: Served) -> bool:
    try:
        return served.get().status == 200
    except OSError:
        return False


def test_it_ends_at_once_although_somebody_waits(served: Served) -> None:
    threading.Thread(target=lambda: served.get("api/cameras/gate/live"), daemon=True).start()
    wait_until(lambda: served.live.wanted("gate"))
    began = time.monotonic()
    served.live.close()
    assert time.monotonic() - began < 1


def test_an_answer_is_json_that_others_can_read(served: Served) -> None:
    assert json.loads(served.get("api/cameras").body)["cameras"]
