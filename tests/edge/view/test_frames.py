from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from culling.common.metrics import Metrics
from culling.common.wire.codec import decode_jpeg
from culling.edge.camera.camera import Frame
from culling.edge.view.frames import LOOKS_S, LiveFrames
from culling.edge.view.settings import ViewSettings
from support.clock import FakeClock
from support.outputs import seen
from support.waiting import wait_until


def frame(seq: int = 0, width: int = 160, height: int = 128, **changes: Any) -> Frame:
    picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 10 * seq, np.uint8), format="rgb24")
    return Frame("gate", seq, seq / 25, 1e9, 0.0, picture, **changes)


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self.live = LiveFrames(ViewSettings(**settings), self.metrics, self.clock)

    def look(self, last: int = 0, within_s: float = 0.0) -> Any:
        return self.live.newest("gate", last, within_s)

    def skipped(self) -> dict[str, float]:
        return {reason: count for reason, count in self.metrics.by("reason", "view_frames_skipped").items() if count}

    @property
    def encoded(self) -> int:
        return int(self.metrics.total("view_frames"))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.look()
    yield rig
    rig.live.close()


def test_nothing_is_kept_or_encoded_while_nobody_looks() -> None:
    rig = Rig()
    assert not rig.live.wanted("gate")
    rig.live.offer(frame(1), seen())
    assert rig.look() is None
    assert (rig.encoded, rig.skipped()) == (0, {})


def test_who_looks_gets_the_newest_picture_with_what_was_found_in_it(rig: Rig) -> None:
    found = seen(3)
    rig.live.offer(frame(3), found)
    shown = rig.look()
    assert shown.seen is found
    assert abs(int(decode_jpeg(shown.jpeg).mean()) - 30) <= 2
    assert rig.look(shown.number) is None, "the same picture is not sent twice"
    assert rig.encoded == 1


def test_who_waits_is_woken_by_the_next_picture(rig: Rig) -> None:
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(rig.look(within_s=20)))
    waiting.start()
    rig.live.offer(frame(1), None)
    waiting.join(20)
    assert [one.number for one in found] == [1]


def test_a_picture_is_encoded_once_for_all_who_look(rig: Rig) -> None:
    rig.live.offer(frame(1), None)
    assert rig.look().jpeg is rig.look().jpeg
    assert rig.encoded == 1


def test_no_more_pictures_come_than_are_shown_in_a_second_and_the_rest_is_counted(rig: Rig) -> None:
    for number in range(250):  # ten seconds of 25 frames
        rig.live.offer(frame(number % 25), None)
        rig.look()
        rig.clock.advance(0.04)
    assert rig.encoded in (100, 101)
    assert rig.skipped() == {"rate": 250 - rig.encoded}


def test_a_slow_viewer_misses_pictures_which_are_counted_and_the_newest_is_shown(rig: Rig) -> None:
    for number in (1, 2, 3):
        rig.live.offer(frame(number), None)
        rig.clock.advance(0.2)
    assert rig.look().frame.seq == 3
    assert rig.skipped() == {"newer": 2}
    assert rig.encoded == 1


def test_a_viewer_that_encodes_does_not_hold_up_the_camera_path(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    whole = LiveFrames._jpeg

    def slow(live: LiveFrames, one: Frame) -> bytes:
        began.set()
        assert go_on.wait(20)
        return whole(live, one)

    monkeypatch.setattr(LiveFrames, "_jpeg", slow)
    rig.live.offer(frame(1), None)
    looking = threading.Thread(target=rig.look)
    looking.start()
    assert began.wait(20)
    rig.clock.advance(1.0)
    rig.live.offer(frame(2), None)  # returns, although the first is still being encoded
    assert rig.live._slots["gate"].waiting is not None
    go_on.set()
    looking.join(20)


def test_a_picture_that_was_being_encoded_when_a_mask_came_is_not_shown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LiveFrames._jpeg

    def overtaken(live: LiveFrames, one: Frame) -> bytes:
        live.forget("gate")
        return whole(live, one)

    monkeypatch.setattr(LiveFrames, "_jpeg", overtaken)
    rig.live.offer(frame(1), None)
    assert rig.look() is None


def test_pictures_from_before_other_regions_are_forgotten(rig: Rig) -> None:
    rig.live.offer(frame(1), None)
    rig.look()
    rig.clock.advance(1.0)
    rig.live.offer(frame(2), None)
    rig.live.forget("gate")
    assert rig.look() is None
    rig.clock.advance(1.0)
    rig.live.offer(frame(3), None)
    assert rig.look().frame.seq == 3


def test_when_the_last_viewer_has_left_its_picture_is_let_go(rig: Rig) -> None:
    rig.live.offer(frame(1), None)
    rig.look()
    rig.clock.advance(LOOKS_S + 0.1)
    rig.live.offer(frame(2), None)
    assert not rig.live.wanted("gate")
    assert rig.live._slots["gate"].shown is None
    assert rig.skipped() == {}


@pytest.mark.parametrize(("turn", "tall"), [(0, False), (1, True)])
def test_a_picture_is_sent_upright_and_no_larger_than_wanted(turn: int, tall: bool) -> None:
    rig = Rig(long_side=160)
    rig.look()
    rig.live.offer(frame(1, width=1600, height=1280, turn=turn), None)
    height, width = decode_jpeg(rig.look().jpeg).shape[:2]
    assert max(height, width) == 160
    assert (height > width) == tall


def test_a_picture_that_cannot_be_scaled_is_counted_and_the_next_is_shown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(live: LiveFrames, one: Frame) -> bytes:
        raise ValueError("no such plane")

    with monkeypatch.context() as patched:
        patched.setattr(LiveFrames, "_jpeg", torn)
        rig.live.offer(frame(1), None)
        assert rig.look() is None
    rig.clock.advance(1.0)
    rig.live.offer(frame(2), None)
    assert rig.look().frame.seq == 2
    assert rig.skipped() == {"unreadable": 1}


def test_nobody_waits_for_an_agent_that_ends(rig: Rig) -> None:
    waiting = threading.Thread(target=lambda: rig.look(within_s=60))
    waiting.start()
    wait_until(lambda: bool(rig.live._slots["gate"].turn._waiters))  # type: ignore[attr-defined]
    rig.live.close()
    waiting.join(20)
    assert not waiting.is_alive()
