from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from culling.cloud.link.looks import Looks, Sight
from culling.cloud.page.live import AWAY, FORBIDDEN, WAITING, live
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState, camera_state, hard_frame

NOW = 1_800_000_000.0
FOUND = msgspec.msgpack.encode(hard_frame(1)[0].detections)


class Page:
    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder)
        self.cloud.enroll(CAMERA)

    def ask(self, after: float = 0.0, at: float = NOW) -> dict[str, Any]:
        return live(self.cloud.index, self.cloud.settings, CAMERA, after, at)

    def heard(self, at: float = NOW, **state: Any) -> None:
        self.cloud.roster.heard({CAMERA: camera_state(**state)}, at)

    def looked_at(self) -> bool:
        return CAMERA in Looks(self.cloud.index).until()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path)
    yield page
    page.cloud.close()


def test_an_edge_that_is_away_is_named_as_such(page: Page) -> None:
    assert page.ask() == {"why": AWAY, "jpeg": None}
    page.heard(NOW - 60, through_cloud=True)
    assert page.ask()["why"] == AWAY
    assert not page.looked_at()


def test_an_edge_that_does_not_allow_it_is_never_asked_and_its_own_page_named(page: Page) -> None:
    page.heard()
    assert page.ask() == {"why": FORBIDDEN, "jpeg": None}
    assert "view.through_cloud" in FORBIDDEN
    assert "http://127.0.0.1:9467" in FORBIDDEN
    assert not page.looked_at()


def test_the_first_picture_is_waited_for_and_then_shown_with_its_boxes(page: Page) -> None:
    page.heard(through_cloud=True)
    assert page.ask() == {"why": WAITING, "jpeg": None}
    assert page.looked_at()
    Looks(page.cloud.index).keep({CAMERA: Sight(NOW - 1, NOW, "gate-1", 64, 48, FOUND, b"jpeg")}, NOW)
    shown = page.ask()
    assert (shown["why"], shown["at"], shown["width"], shown["height"]) == ("", NOW - 1, 64, 48)
    assert base64.b64decode(shown["jpeg"]) == b"jpeg"
    assert shown["student"] == [[1.0, 1.0, 20.0, 20.0, 0.9, "person"]]
    assert shown["colours"]["person"].startswith("#")
    assert page.ask(after=NOW - 1) == {"why": "", "at": NOW - 1, "jpeg": None}


def test_a_camera_without_a_model_is_shown_without_boxes(page: Page) -> None:
    page.heard(through_cloud=True)
    page.ask()
    Looks(page.cloud.index).keep({CAMERA: Sight(NOW, NOW, "none", 64, 48, None, b"jpeg")}, NOW)
    assert page.ask()["student"] == []


def test_a_camera_that_there_is_not_is_refused(page: Page) -> None:
    with pytest.raises(InputError, match="there is no camera attic"):
        live(page.cloud.index, page.cloud.settings, "attic", 0.0, NOW)
