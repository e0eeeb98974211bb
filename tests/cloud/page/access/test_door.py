"""Who sees what, and who may act: over real HTTP, with a page that knows people by a provider's keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.page.access.places import EDGE_OF
from culling.cloud.page.board import Board
from culling.cloud.page.dashboard import Dashboard, build_app
from culling.cloud.store.people.deeds import Actor, Deeds
from culling.cloud.store.people.tokens import Tokens
from culling.common.cli import main
from culling.common.errors import SettingsError
from culling.common.metrics import Metrics
from support.cloud import CloudState, camera_state, hard_frame
from support.http import Answer, Stream, fetch
from support.people import Provider
from support.waiting import wait_until

OURS, THEIRS = "gate", "vault"


class Served:
    """A page of two sites with a camera each, of which one has a frame, a round and a request."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.provider = Provider(folder)
        access = sections.pop("access", None) or self.provider.settings()
        sites = {"yard": {"edges": ["edge-1"]}, "bank": {"edges": ["edge-2", "edge-3"]}}
        page = {"port": 0, "actions": True}
        self.cloud = CloudState(folder, **{"page": page, "access": access, "sites": sites, **sections})
        self.cloud.enroll(OURS, edge="edge-1")
        self.cloud.enroll(THEIRS, edge="edge-2")
        frame, jpeg = hard_frame(camera=THEIRS)
        self.cloud.frames.add("e" * 40, frame, jpeg)
        number = self.cloud.rounds.start(THEIRS, "manual", self.cloud.clock.now()).id
        self.request = self.cloud.requests.ask("hold", THEIRS, 0.0)
        told = {name: (camera_state(name), self.cloud.clock.now()) for name in (OURS, THEIRS)}
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        state = (self.cloud.settings, self.cloud.index, self.cloud.frames)
        self.page = Dashboard(*state, lambda: told, self.cloud.clock, self.metrics)
        self.token = (self.cloud.data_dir / "page.token").read_text().strip()
        board = Board(self.cloud.index, dict, self.cloud.clock, self.cloud.settings)
        self.app = build_app(*state, board, self.cloud.clock, self.metrics, self.token)
        names = {"turn": str(number), "request_id": str(self.request)}
        wait_until(lambda: len(self.ask("/api/fleet", X_Culling_Token=self.token).json()["cameras"]) == 2)
        [row] = self.ask(f"/api/cameras/{THEIRS}/frames", X_Culling_Token=self.token).json()
        self.names = {"name": THEIRS, "frame": row["id"], **names}

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        return fetch(f"{self.page.url}{path}", method, body, **headers)

    def as_(self, *groups: str, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.provider.sign(*groups, **changes)}"}

    def act(self, camera: str, kind: str = "pause", **headers: str) -> Answer:
        return self.ask("/api/actions", "POST", {"kind": kind, "camera": camera}, **headers)

    def close(self) -> None:
        self.page.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("served"))
    yield found
    found.close()


def routes(served: Served) -> list[tuple[str, str]]:
    """Every route of the application: its method, and its path."""
    return [(method, route.path) for route in served.app.routes for method in sorted(route.methods)]  # type: ignore[attr-defined]


# Every route


def test_nothing_of_another_site_is_seen_whatever_is_asked_for(served: Served) -> None:
    walked = 0
    for method, path in routes(served):
        whole, names = path, re.findall(r"\{(\w+)\}", path)
        for name in names:
            whole = whole.replace(f"{{{name}}}", served.names[name])
        if whole == "/events":
            continue
        body = {"kind": "pause", "camera": THEIRS} if method == "POST" else None
        answer = served.ask(whole, method, body, **served.as_("guards"))
        assert THEIRS.encode() not in answer.body.replace(b"there is no camera vault", b""), whole
        if names:
            assert answer.status == 404, (method, whole, answer.body)
            whole_answer = served.ask(whole, method, b"{}", X_Culling_Token=served.token)
            assert whole_answer.status != 404 or names == ["turn"], whole  # the round kept nothing
            walked += 1
    assert walked >= 9


def test_every_parameter_of_a_path_says_whose_it_is(served: Served) -> None:
    for _, path in routes(served):
        assert set(re.findall(r"\{(\w+)\}", path)) <= EDGE_OF.keys(), path


def test_nobody_sees_anything_who_does_not_say_who_it_is(served: Served) -> None:
    for method, path in routes(served):
        whole = re.sub(r"\{(\w+)\}", lambda match: served.names[match[1]], path)
        assert served.ask(whole, method, b"{}").status == 401, whole


def test_a_camera_of_another_site_is_answered_as_one_that_is_not_there(served: Served) -> None:
    here, nowhere = (served.act(name, **served.as_("guards")) for name in (THEIRS, "nowhere"))
    assert (here.status, here.body.replace(b"vault", b"nowhere")) == (nowhere.status, nowhere.body)


def test_every_route_is_in_the_description(served: Served) -> None:
    told = served.ask("/api/openapi.json", **served.as_("lookers")).json()
    described = {(method.upper(), path) for path, one in told["paths"].items() for method in one}
    assert described == set(routes(served))
    assert all(operation.get("summary") for one in told["paths"].values() for operation in one.values())


# The stream


def test_a_stream_tells_of_the_cameras_of_ones_sites_alone(served: Served) -> None:
    stream = Stream(served.page.url, **served.as_("lookers"))
    assert [row["camera"] for row in stream.next()["cameras"]] == [OURS]
    stream.close()


def test_news_are_encoded_once_for_all_who_see_the_same(served: Served) -> None:
    board = Board(served.cloud.index, dict, served.cloud.clock, served.cloud.settings)
    board.refresh()
    ours, all_ = frozenset({"edge-1"}), None
    assert board.since(0, ours) is board.since(0, frozenset({"edge-1"}))
    assert [row["camera"] for row in json.loads(board.since(0, ours).data)["cameras"]] == [OURS]
    assert len(json.loads(board.since(0, all_).data)["cameras"]) == 2


def test_a_camera_that_moved_to_another_site_leaves_the_page_of_those_who_saw_it(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    cloud.enroll(OURS, edge="edge-1")
    cloud.enroll(THEIRS, edge="edge-2")
    board = Board(cloud.index, dict, cloud.clock, cloud.settings)
    board.refresh()
    seen = board.revision
    with cloud.index.write() as connection:
        connection.exec_driver_sql("UPDATE cameras SET edge = 'edge-2' WHERE name = 'gate'")
    board._next_slow = 0.0
    board.refresh()
    told = json.loads(board.since(seen, frozenset({"edge-1"})).data)
    assert (told["all"], told["cameras"]) == (True, [])
    cloud.close()


# Roles


@pytest.mark.parametrize(
    ("groups", "role", "sees", "acts"),
    [
        (["lookers"], "viewer", ["edge-1"], False),
        (["guards"], "operator", ["edge-1"], True),
        (["lookers", "owners"], "admin", None, True),
    ],
)
def test_a_group_gives_its_role_on_its_sites(
    served: Served, groups: list[str], role: str, sees: Any, acts: bool
) -> None:
    told = served.ask("/api/me", **served.as_(*groups)).json()
    assert (told["who"], told["role"], told["edges"], told["acts"]) == ("anna@example.org", role, sees, acts)


def test_a_viewer_looks_and_an_operator_acts(served: Served) -> None:
    assert served.act(OURS, **served.as_("lookers")).status == 403
    assert served.act(OURS, **served.as_("guards")).status == 202
    assert served.act(THEIRS, **served.as_("owners")).status == 202


def test_who_is_in_no_group_sees_nothing(served: Served) -> None:
    assert served.ask("/api/fleet", **served.as_("strangers")).status == 403


def test_who_did_what_is_for_admins(served: Served) -> None:
    served.act(OURS, "resume", **served.as_("guards"))
    served.act(OURS, "resume", **served.as_("lookers"))
    assert served.ask("/api/deeds", **served.as_("guards")).status == 403
    refused, asked = served.ask("/api/deeds", **served.as_("owners")).json()[:2]
    shown = ("who", "by", "address", "action", "camera", "outcome")
    assert [asked[key] for key in shown] == ["anna@example.org", "signed", "127.0.0.1", "resume", OURS, "asked"]
    assert (refused["outcome"], refused["action"]) == ("refused", "resume")


# Signed tokens


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1.0},
        {"exp": None},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://elsewhere.example"},
        {"nbf": 4e9},
        {"key": "x" * 32, "algorithm": "HS256"},
        {"key": "", "algorithm": "none"},
    ],
    ids=["old", "for ever", "for another", "for nobody", "of another", "to come", "by a secret", "unsigned"],
)
def test_a_signed_token_that_does_not_hold_is_refused(served: Served, changes: dict[str, Any]) -> None:
    assert served.ask("/api/fleet", **served.as_("owners", **changes)).status == 401


def test_a_token_of_another_key_is_refused(served: Served, tmp_path: Path) -> None:
    other = Provider(tmp_path).sign("owners")
    assert served.ask("/api/fleet", Authorization=f"Bearer {other}").status == 401


@pytest.mark.parametrize("name", ["X_Forwarded_User", "X_Forwarded_Email", "X_Forwarded_Groups", "Remote_User"])
def test_what_nobody_signed_is_not_believed(served: Served, name: str) -> None:
    assert served.ask("/api/fleet", **{name: "owners"}).status == 401


def test_new_keys_are_read_as_soon_as_they_are_there(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        before = served.as_("owners")
        served.provider.renew("two")
        assert served.ask("/api/fleet", **served.as_("owners")).status == 200
        assert served.ask("/api/fleet", **before).status == 401
    finally:
        served.close()


def test_a_header_of_the_proxys_own_may_carry_the_token(tmp_path: Path) -> None:
    served = Served(tmp_path, access=Provider(tmp_path).settings(header="X-Forwarded-Access-Token"))
    served.provider.renew()
    try:
        signed = served.provider.sign("owners")
        for said in (signed, f"Bearer {signed}", f"bearer {signed}"):
            assert served.ask("/api/fleet", X_Forwarded_Access_Token=said).status == 200
        assert served.ask("/api/fleet", **served.as_("owners")).status == 401
    finally:
        served.close()


@pytest.mark.parametrize(
    ("access", "wrong"),
    [
        ({"keys": "jwks.json"}, "issuer is needed"),
        ({"groups": {"a": {"role": "viewer"}}}, "without keys"),
        ({"groups": {"a": {"role": "admin", "sites": ["yard"]}}}, "every site"),
    ],
)
def test_settings_that_would_let_others_in_are_refused(tmp_path: Path, access: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        CloudState(tmp_path, access=access)


def test_keys_that_cannot_be_read_keep_the_page_from_starting(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    with pytest.raises(SettingsError, match=r"access\.keys"):
        Served(tmp_path, access=Provider(tmp_path).settings(keys=str(tmp_path / "no.json")))


def test_an_edge_in_two_sites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="both have edge-1"):
        CloudState(tmp_path, sites={"a": {"edges": ["edge-1"]}, "b": {"edges": ["edge-1"]}})


# Tokens of programs


def test_a_token_may_what_it_was_made_for_until_it_is_revoked(served: Served) -> None:
    now, by = served.cloud.clock.now(), Actor("anna@here", "command")
    secret = Tokens(served.cloud.index).create("night", "operator", ["yard"], by, now, now + 60)
    for headers in ({"X_Culling_Token": secret}, {"Authorization": f"Bearer {secret}"}):
        assert [row["camera"] for row in served.ask("/api/fleet", **headers).json()["cameras"]] == [OURS]
        assert served.act(OURS, **headers).status == 202
        assert served.act(THEIRS, **headers).status == 422
    assert Deeds(served.cloud.index).all()[0]["who"] == "token night"
    Tokens(served.cloud.index).revoke("night", by, now)
    assert served.ask("/api/fleet", X_Culling_Token=secret).status == 401


def test_a_terminal_watches_with_a_token(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = served.cloud.clock.now()
    made = Tokens(served.cloud.index).create("wall", "viewer", ["yard"], Actor("anna", "command"), now, now + 60)
    (tmp_path / "token").write_text(f"{made}\n")
    watch = ["watch", "--json", "--once", "--url", served.page.url]
    assert main([*watch, "--token-file", str(tmp_path / "token")]) == 0
    assert [json.loads(line)["camera"] for line in capsys.readouterr().out.splitlines()] == [OURS]
    assert main(watch) == 3
    assert "asks who it is: give --token-file" in capsys.readouterr().err


def test_the_holder_of_the_pages_own_token_may_everything(served: Served) -> None:
    assert served.ask("/api/me", X_Culling_Token=served.token).json()["role"] == "admin"
    assert served.act(THEIRS, X_Culling_Token=served.token).status == 202


def test_anyone_looks_where_nothing_is_said(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    assert cloud.settings.access.is_open
    cloud.close()
