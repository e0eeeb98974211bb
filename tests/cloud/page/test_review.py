"""The page's review, asked of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.page.dashboard import Dashboard
from culling.cloud.store.purge.audit import AUDIT
from culling.common.clock import SystemClock
from culling.common.metrics import Metrics
from support.cloud import CAMERA, CloudState, detections
from support.http import Answer, fetch
from support.reviewing import CAR, by_number, reviewing, rows


class Served:
    """A real page over ten labelled frames, on five of which teacher and student differ."""

    def __init__(self, folder: Path, **page: Any) -> None:
        self.cloud, _ = reviewing(folder, page={"port": 0, **page})
        metrics = Metrics(CollectorRegistry(), "cloud")
        cloud: CloudState = self.cloud
        self.page = Dashboard(cloud.settings, cloud.index, cloud.frames, lambda: {}, SystemClock(), metrics)
        self.url = f"{self.page.url}/api/cameras/{CAMERA}/review"
        self.token = (cloud.data_dir / "page.token").read_text().strip()

    def left(self) -> dict[str, Any]:
        found: dict[str, Any] = fetch(self.url).json()
        return found

    def decide(self, *decisions: dict[str, Any], **headers: str) -> Answer:
        return self.post({"decisions": decisions}, **headers)

    def post(self, body: Any, **headers: str) -> Answer:
        return fetch(self.url, "POST", body, **{"Authorization": f"Bearer {self.token}", **headers})

    def close(self) -> None:
        self.page.close()
        self.cloud.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path, actions=True)
    yield found
    found.close()


def test_frames_in_dispute_are_served_with_their_pictures(served: Served) -> None:
    found = served.left()
    assert (found["left"], len(found["frames"])) == (5, 5)
    row = found["frames"][0]
    assert row["why"] == "1 car the student has not"
    assert [len(row["teacher"]), len(row["student"])] == [2, 1]
    picture = fetch(f"{served.page.url}/{row['picture']}")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")
    assert len(fetch(f"{served.url}?limit=2").json()["frames"]) == 2


def test_what_is_decided_overrules_the_teacher_and_does_not_come_again(served: Served) -> None:
    frames = by_number(served.cloud)
    own = {"id": frames[5].id, "decision": "corrected", "boxes": [[30, 10, 60, 40, "car"]]}
    answer = served.decide({"id": frames[1].id, "decision": "skip"}, own)
    told = answer.json()
    effect, at = told.pop("effect"), told.pop("at")
    assert at.keys() == {frames[1].id, frames[5].id}
    assert (effect["decided"], effect["told"]) == (1, served.left()["effect"]["told"]), "a skip says nothing"
    assert (answer.status, told) == (200, {"decided": 2, "same": 0, "left": 3})
    assert rows(by_number(served.cloud)[5].labels) == rows(detections((*CAR[:4], 1.0, 2)))
    assert not {frames[1].id, frames[5].id} & {row["id"] for row in served.left()["frames"]}
    same = {"decided": 0, "same": 1, "left": 3, "effect": effect, "at": {own["id"]: at[frames[5].id]}}
    assert served.decide(own).json() == same
    stale = served.decide({"id": frames[5].id, "decision": "teacher", "seen": None})
    assert (stale.status, "somebody decided this frame at" in str(stale.json())) == (409, True)
    (line,) = (json.loads(text) for text in (served.cloud.data_dir / AUDIT).read_text().splitlines())
    assert (line["event"], line["camera"], line["frames"], line["client"]) == (
        "frames_reviewed",
        CAMERA,
        2,
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Host": "elsewhere.example"}, 400),
    ],
)
def test_nobody_decides_without_token_or_from_another_site(
    served: Served, headers: dict[str, str], status: int
) -> None:
    name = by_number(served.cloud)[1].id
    assert served.decide({"id": name, "decision": "skip"}, **headers).status == status
    assert served.left()["left"] == 5


def test_a_page_that_only_shows_takes_no_decision(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        assert served.left()["left"] == 5
        answer = served.decide({"id": by_number(served.cloud)[1].id, "decision": "skip"})
        assert (answer.status, served.left()["left"]) == (403, 5)
    finally:
        served.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        ({"decisions": [{"id": "../x", "decision": "skip"}]}, 422),
        ({"decisions": [{"id": "0" * 32, "decision": "skip"}]}, 422),
        ({"decisions": [], "more": 1}, 422),
        (b" " * (1 << 20) + b"{}", 413),
    ],
)
def test_what_makes_no_sense_is_refused(served: Served, body: Any, status: int) -> None:
    assert served.post(body).status == status
    assert served.left()["left"] == 5


def test_a_camera_that_is_not_there_is_not_found(served: Served) -> None:
    url = f"{served.page.url}/api/cameras/yard/review"
    assert fetch(url).status == 404
    answer = fetch(url, "POST", {"decisions": []}, Authorization=f"Bearer {served.token}")
    assert (answer.status, answer.json()) == (404, {"error": "there is no camera yard: see `culling cloud status`"})


def test_a_place_is_ignored_and_told_as_the_edges_settings_have_it(served: Served) -> None:
    name = served.left()["frames"][0]["id"]
    answer = served.decide({"id": name, "decision": "ignore", "boxes": [[30, 10, 60, 40, "car"]]}).json()
    assert (answer["decided"], answer["left"]) == (1, 4)
    (row,) = answer["frames"]
    assert (row["id"], row["picture"]) == (name, f"api/frames/{name}.jpg")
    assert row["toml"].splitlines()[1] == "[[camera.ignore]]"
    assert "frames" not in served.decide({"id": served.left()["frames"][0]["id"], "decision": "skip"}).json()
    assert served.decide({"id": name, "decision": "ignore", "boxes": []}).status == 422
