from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.link.live import ASK_S, LiveLink
from culling.cloud.link.looks import LOOKS_S, Looks
from culling.common.errors import ProtocolError
from culling.common.metrics import Metrics
from culling.common.wire.messages import FromCloud, LivePicture, Look
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, hard_frame

FRAME, JPEG = hard_frame(1)
PICTURE = LivePicture(CAMERA, 1.8e9, "gate-1", 640, 480, FRAME.detections)


class Rig:
    """What an ingest does each second, and what its edge is told."""

    def __init__(self, folder: Path) -> None:
        self.state = CloudState(folder)
        self.looks = Looks(self.state.index)
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        self.told: list[FromCloud] = []
        self.carrier: str | None = "edge-key"
        self.live = LiveLink(self.state.index, self.metrics, self.clock, self._send)

    def _send(self, edge_key: str, message: FromCloud) -> bool:
        assert edge_key == "edge-key"
        self.told.append(message)
        return True

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.live.tick(lambda _: self.carrier)

    def look(self) -> None:
        self.shown = self.looks.look(CAMERA, self.clock.now())

    def ignored(self) -> dict[str, float]:
        return {why: count for why, count in self.metrics.by("reason", "live_pictures_ignored").items() if count}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.state.close()


def test_nobody_is_asked_while_nobody_looks(rig: Rig) -> None:
    for _ in range(3):
        rig.tick()
    assert rig.told == []


def test_an_edge_is_asked_for_a_picture_at_a_time_while_somebody_looks(rig: Rig) -> None:
    for seq in range(1, 4):
        rig.look()
        rig.tick()
        assert rig.told == [Look(CAMERA, ASK_S)] * seq
        rig.live.take(PICTURE, JPEG, 6)
    rig.tick()
    rig.look()
    assert (rig.shown.jpeg, rig.shown.width) == (JPEG, 640)  # type: ignore[union-attr]
    assert rig.metrics.total("live_pictures", camera=CAMERA) == 3


def test_an_edge_that_sends_none_is_asked_again_after_a_while(rig: Rig) -> None:
    for _ in range(int(ASK_S)):
        rig.look()
        rig.tick()
    assert len(rig.told) == 1
    rig.look()
    rig.tick()
    assert len(rig.told) == 2


def test_no_edge_is_asked_where_none_is_there_or_allows_it(rig: Rig) -> None:
    rig.carrier = None
    rig.look()
    rig.tick()
    assert rig.told == []
    rig.carrier = "edge-key"
    rig.tick()
    assert rig.told == [Look(CAMERA, ASK_S)]


def test_pictures_that_nobody_asked_for_are_ignored_and_counted(rig: Rig) -> None:
    rig.live.take(PICTURE, JPEG, 6)
    rig.look()
    rig.tick()
    rig.live.take(PICTURE, JPEG, 6)
    rig.live.take(PICTURE, JPEG, 6)
    assert rig.ignored() == {"unasked": 2}
    assert rig.metrics.total("live_pictures", camera=CAMERA) == 1


@pytest.mark.parametrize(("jpeg", "classes"), [(b"no picture", 6), (JPEG, 0)])
def test_what_is_no_picture_or_has_strange_labels_is_refused(rig: Rig, jpeg: bytes, classes: int) -> None:
    rig.look()
    rig.tick()
    with pytest.raises(ProtocolError):
        rig.live.take(PICTURE, jpeg, classes)
    assert rig.ignored() == {"malformed": 1}
    rig.tick()
    rig.look()
    assert rig.shown is None


def test_when_nobody_looks_any_more_no_picture_is_asked_for_or_left(rig: Rig) -> None:
    rig.look()
    rig.tick()
    rig.live.take(PICTURE, JPEG, 6)
    rig.tick(LOOKS_S)
    assert rig.looks.until() == {}
    rig.tick()
    assert len(rig.told) == 1
    rig.live.take(PICTURE, JPEG, 6)
    assert rig.ignored() == {"unasked": 1}
