from __future__ import annotations

import threading
from typing import Any

import pytest

from culling.common.wire.codec import jpeg_size
from culling.common.wire.messages import Verdict
from culling.edge.camera.camera import Frame
from culling.edge.cascade.line import MOST, Line
from support.clock import FakeClock
from support.pictures import frame


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def line(clock: FakeClock) -> Line:
    return Line("boot-1", 90, clock, threading.Condition())


def test_what_is_asked_is_sent_once_with_its_picture_and_what_is_left_of_its_time(line: Line, clock: FakeClock) -> None:
    number = line.ask(frame(7), "gate-1", clock.monotonic() + 2.0)
    clock.advance(0.5)
    sent = line.next()
    assert sent is not None
    asked, jpeg = sent
    assert (asked.camera, asked.boot, asked.seq, asked.model_id) == ("gate", "boot-1", number, "gate-1")
    assert (asked.within_s, asked.captured) == (pytest.approx(1.5), 1e9 + 7)
    assert (asked.width, asked.height) == jpeg_size(jpeg) == (64, 48)
    assert line.next() is None


def test_no_two_questions_have_the_same_number_whatever_camera_or_frame_they_are_about(
    line: Line, clock: FakeClock
) -> None:
    until = clock.monotonic() + 2.0
    frames = [frame(1), frame(1, "yard"), frame(1)]
    assert len({line.ask(one, "gate-1", until) for one in frames}) == 3


def test_few_frames_wait_for_the_link(line: Line, clock: FakeClock) -> None:
    until = clock.monotonic() + 2.0
    for seq in range(MOST):
        assert not line.full
        line.ask(frame(seq), "gate-1", until)
    assert line.full
    assert line.next() is not None
    assert not line.full


def test_what_would_come_too_late_is_not_sent(line: Line, clock: FakeClock) -> None:
    line.ask(frame(1), "gate-1", clock.monotonic() + 1.0)
    later = line.ask(frame(2), "gate-1", clock.monotonic() + 2.0)
    clock.advance(1.0)
    sent = line.next()
    assert sent is not None
    assert sent[0].seq == later


def test_a_picture_that_cannot_be_read_has_no_answer_and_holds_up_no_other(line: Line, clock: FakeClock) -> None:
    class Torn(Frame):
        def rgb(self) -> Any:
            raise ValueError("no such plane")

    until = clock.monotonic() + 2.0
    whole = frame(1)
    torn = line.ask(Torn("gate", 0, 0.0, 1e9, 0.0, whole.picture), "gate-1", until)
    good = line.ask(whole, "gate-1", until)
    sent = line.next()
    assert sent is not None
    assert sent[0].seq == good
    assert line.came() == [Verdict("gate", "boot-1", torn, reason="unreadable")]


def test_verdicts_are_taken_once_in_their_order(line: Line) -> None:
    assert not line.heard
    line.take(Verdict("gate", "boot-1", 1))
    line.give_up("gate", 2, "upload-limit")
    assert line.heard
    assert [one.seq for one in line.came()] == [1, 2]
    assert line.came() == []
    assert not line.heard
