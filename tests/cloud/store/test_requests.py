from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def test_requests_wait_in_order_until_they_are_answered(cloud: CloudState) -> None:
    first = cloud.requests.ask("round", CAMERA, 1.0)
    second = cloud.requests.ask("publish", CAMERA, 2.0, {"sha256": "x"})
    assert [request.id for request in cloud.requests.open()] == [first, second]
    assert cloud.requests.open()[1].payload == {"sha256": "x"}
    assert cloud.requests.answered(first) is None
    cloud.requests.answer(first, "round 1 started", False, 3.0)
    cloud.requests.answer(second, "the file is gone", True, 3.0)
    assert cloud.requests.open() == []
    assert cloud.requests.answered(first) == (True, "round 1 started")
    assert cloud.requests.answered(second) == (False, "the file is gone")


def test_a_request_that_is_still_open_is_not_entered_twice(cloud: CloudState) -> None:
    for camera in (CAMERA, CAMERA, "yard"):
        cloud.requests.ask_once("renew", camera, 1.0)
    assert [request.camera for request in cloud.requests.open()] == [CAMERA, "yard"]
    cloud.requests.answer(cloud.requests.open()[0].id, "gate-2 is live", False, 2.0)
    cloud.requests.ask_once("renew", CAMERA, 3.0)
    assert [request.camera for request in cloud.requests.open()] == ["yard", CAMERA]


def test_a_request_that_was_never_entered_has_no_answer(cloud: CloudState) -> None:
    with pytest.raises(InputError, match="no request 7"):
        cloud.requests.answered(7)
