from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from culling.common.metrics import Metrics
from culling.common.wire.codec import jpeg_size
from culling.common.wire.messages import MAX_LIVE, LivePicture, Look, from_wire
from culling.edge.camera.camera import Frame
from culling.edge.view.abroad import EVERY_S, LONG_SIDE, Abroad
from culling.edge.view.frames import LOOKS_S
from support.clock import FakeClock
from support.outputs import seen


def frame(seq: int = 0, width: int = 160, height: int = 128) -> Frame:
    noise = np.random.default_rng(seq).integers(0, 255, (height, width, 3), np.uint8)
    return Frame("gate", seq, seq / 25, 1e9 + seq, 0.0, av.VideoFrame.from_ndarray(noise, format="rgb24"))


class Rig:
    def __init__(self, allowed: bool = True) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self.abroad = Abroad(allowed, lambda: ["gate", "yard"], self.metrics, self.clock)
        self.seq = 0

    def look(self, camera: str = "gate", seconds: float = 10.0) -> None:
        self.abroad.look(Look(camera, seconds))

    def show(self, **changes: Any) -> None:
        """Show the next frame, half a second after the last one."""
        self.clock.advance(0.5)
        self.seq += 1
        assert self.abroad.live is not None
        self.abroad.live.offer(frame(self.seq, **changes), seen(self.seq))

    def send(self) -> LivePicture | None:
        """Send what is due; return it."""
        for camera in self.abroad.due():
            if (found := self.abroad.picture(camera)) is not None:
                self.abroad.sent(camera)
                return found[0]
        return None

    def skipped(self) -> dict[str, float]:
        return {why: count for why, count in self.metrics.by("reason", "live_pictures_skipped").items() if count}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_nothing_is_kept_or_due_while_nobody_looks(rig: Rig) -> None:
    rig.show()
    assert rig.abroad.live is not None
    assert not rig.abroad.live.wanted("gate")
    assert rig.abroad.due() == []


def test_a_look_is_answered_with_one_picture_of_what_came_since(rig: Rig) -> None:
    rig.show()
    rig.look()
    assert rig.abroad.due() == ["gate"]
    assert rig.abroad.picture("gate") is None, "it waits for the next frame"
    rig.show()
    sent = rig.send()
    assert sent is not None
    assert (sent.camera, sent.captured, sent.model_id, sent.width, sent.height) == ("gate", 1e9 + 2, "gate-1", 160, 128)
    assert sent.detections is not None
    assert len(from_wire(sent.detections)) == 1
    rig.show()
    rig.clock.advance(5.0)
    assert rig.abroad.due() == [], "it is asked for again first"
    assert rig.metrics.total("live_pictures_sent", camera="gate") == 1


def test_no_more_than_one_a_second_leaves_however_often_it_is_asked_for(rig: Rig) -> None:
    sent = 0
    for _ in range(20):  # ten seconds
        rig.look()
        rig.show()
        sent += rig.send() is not None
    assert sent == pytest.approx(10 / EVERY_S, abs=1)


def test_a_picture_is_made_smaller_and_never_sent_twice(rig: Rig) -> None:
    rig.look()
    rig.show(width=1920, height=1080)
    found = rig.abroad.picture("gate")
    assert found is not None
    assert jpeg_size(found[1]) == (LONG_SIDE, 360)
    assert (found[0].width, found[0].height) == (1920, 1080)
    assert found[0].detections is None, "they are in pixels of another size"
    assert rig.abroad.picture("gate") is None


def test_noise_of_the_largest_size_is_within_what_a_message_carries(rig: Rig) -> None:
    rig.look()
    rig.show(width=640, height=640)
    found = rig.abroad.picture("gate")
    assert found is not None
    assert len(found[1]) < MAX_LIVE


def test_a_look_ends_by_itself(rig: Rig) -> None:
    rig.look(seconds=LOOKS_S + 1)
    rig.clock.advance(LOOKS_S + 2)
    assert rig.abroad.due() == []
    rig.show()
    assert rig.abroad.live is not None
    assert not rig.abroad.live.wanted("gate")
    assert rig.metrics.total("view_frames", camera="gate") == 0


def test_a_picture_that_is_skipped_is_counted_and_due_again_in_a_second(rig: Rig) -> None:
    rig.look()
    rig.show()
    rig.abroad.skip("gate", "hard-frames")
    assert rig.abroad.due() == []
    rig.clock.advance(EVERY_S)
    assert rig.send() is not None
    assert rig.skipped() == {"hard-frames": 1}


@pytest.mark.parametrize(("allowed", "camera"), [(False, "gate"), (True, "attic")])
def test_a_look_that_is_not_allowed_or_at_no_camera_is_counted(allowed: bool, camera: str) -> None:
    rig = Rig(allowed)
    rig.look(camera)
    assert rig.abroad.due() == []
    assert rig.abroad.allowed is allowed
    assert rig.metrics.by("reason", "messages_refused") == {"look-not-allowed": 1}
