from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.messages import Escalate, Verdict, to_wire
from culling.edge.cascade import cascade
from culling.edge.cascade.cascade import LEAST, MOST_MISSED, PAUSE_S, Cascade, Unsure
from culling.edge.cascade.line import MOST, Line
from culling.edge.cascade.settings import CascadeSettings
from support.clock import FakeClock
from support.cloud import detections
from support.outputs import seen
from support.pictures import frame

TO = frozenset({"lines"})
FOUND = detections((1, 2, 30, 40, 0.9, 2))


class Rig:
    """A camera's cascade: `see` has a frame come in, `sent` is what its link sends, `out` the records that left."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self.line = Line("boot-1", 90, self.clock, threading.Condition())
        self.line.open = True
        told = CascadeSettings(**{"per_minute": 100, "deadline_s": 2.0, **settings})
        self.cascade = Cascade(told, "gate", self.line, self.metrics, self.clock)
        self.seq = 0
        self.out: list[tuple[int, str]] = []
        for _ in range(LEAST):
            self.see(1.0)
        self.out.clear()

    def see(self, worth: float, to: frozenset[str] = TO, after_s: float = 0.04) -> None:
        self.clock.advance(after_s)
        self.seq += 1
        if not self.cascade.hold(frame(self.seq), seen(self.seq), worth, to):
            self.out.append((self.seq, "student"))

    def sent(self) -> Escalate:
        found = self.line.next()
        assert found is not None
        return found[0]

    def answer(self, asked: Escalate, found: Detections | None = FOUND, **changes: Any) -> None:
        told = Verdict(asked.camera, asked.boot, asked.seq, None if found is None else to_wire(found), "big")
        self.cascade.take(msgspec.structs.replace(told, **changes))
        self.let_go()

    def let_go(self, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        for one in self.cascade.leaving():
            self.out.append((one.seen.seq, "student" if one.answer is None else one.answer.teacher))

    def counted(self, name: str) -> dict[str, float]:
        return {reason: count for reason, count in self.metrics.by("reason", name).items() if count}

    def total(self, name: str) -> float:
        return self.metrics.total(name, camera="gate")


@pytest.fixture
def rig() -> Rig:
    return Rig()


# Which frames


def test_the_worst_share_of_the_last_frames_is_unsure() -> None:
    unsure = Unsure(0.2)
    taken = [unsure.takes(float((17 * number) % 100)) for number in range(1000)]
    assert not any(taken[:LEAST]), "nobody can say yet"
    assert sum(taken[500:]) == pytest.approx(100, abs=10)


def test_frames_that_are_all_alike_or_empty_are_not_unsure() -> None:
    unsure = Unsure(1.0)
    assert not any(unsure.takes(0.0) for _ in range(100))
    assert not any(Unsure(0.2).takes(3.0) for _ in range(100))


def test_the_worths_of_another_student_do_not_count(rig: Rig) -> None:
    rig.cascade.forget()
    rig.see(100.0)
    assert rig.out == [(LEAST + 1, "student")]
    assert rig.total("escalations") == 0


def test_a_frame_that_no_output_tells_of_is_not_asked_about(rig: Rig) -> None:
    rig.see(9.0, to=frozenset())
    assert rig.total("escalations") == 0
    assert rig.line.next() is None


# Answers


def test_a_record_goes_out_with_the_teachers_answer_and_those_behind_it_keep_their_order(rig: Rig) -> None:
    rig.see(9.0)
    rig.see(1.0)
    rig.see(8.0)
    rig.see(1.0)
    assert rig.out == []
    first, second = rig.sent(), rig.sent()
    rig.answer(second)
    assert rig.out == [], "the first one waits still"
    rig.answer(first)
    assert rig.out == [(21, "big"), (22, "student"), (23, "big"), (24, "student")]
    assert (rig.total("escalations"), rig.total("verdicts_taken")) == (2, 2)
    assert sum(rig.metrics.spread("verdict_seconds", camera="gate")) == 2
    rig.see(1.0)
    assert rig.out[-1] == (25, "student"), "nothing waits where nothing is asked"


def test_what_the_teacher_found_is_what_goes_out(rig: Rig) -> None:
    rig.see(9.0)
    asked = rig.sent()
    rig.cascade.take(Verdict("gate", "boot-1", asked.seq, to_wire(FOUND), "big"))
    [one] = list(rig.cascade.leaving())
    assert one.answer is not None
    assert one.answer.found.labels.tolist() == [2]
    assert one.to == TO


def test_at_the_deadline_the_students_answer_stands_and_nothing_behind_it_waits_longer(rig: Rig) -> None:
    rig.see(9.0)
    rig.see(1.0, after_s=1.0)
    rig.let_go(after_s=0.9)
    assert rig.out == []
    rig.let_go(after_s=0.2)
    assert rig.out == [(21, "student"), (22, "student")]
    assert rig.counted("verdicts_missed") == {"deadline": 1}


def test_a_teacher_that_never_answers_in_time_is_left_alone_for_a_while(rig: Rig) -> None:
    for number in range(MOST_MISSED):
        rig.see(9.0 + number)
        rig.sent()
        rig.let_go(after_s=2.0)
    rig.see(20.0)
    assert rig.out[-1] == (21 + MOST_MISSED, "student"), "it waits for nothing"
    assert rig.counted("escalations_skipped") == {"unanswered": 1}

    rig.see(21.0, after_s=PAUSE_S)
    late = rig.sent()
    rig.let_go(after_s=2.0)
    rig.see(22.0)
    assert rig.counted("escalations_skipped") == {"unanswered": 2}, "it was asked once, in vain"
    rig.answer(late)

    for worth in (23.0, 24.0):
        rig.see(worth, after_s=PAUSE_S)
        rig.answer(rig.sent())
    rig.see(25.0)
    assert rig.cascade.holding, "it answers again, and is asked again"


# Faults


def test_a_verdict_that_comes_late_is_dropped(rig: Rig) -> None:
    rig.see(9.0)
    asked = rig.sent()
    rig.let_go(after_s=2.0)
    rig.see(8.0)
    rig.answer(asked)
    assert rig.out == [(21, "student")], "and answers no other frame"
    assert rig.counted("verdicts_dropped") == {"late": 1}
    assert rig.total("verdicts_taken") == 0


def test_a_verdict_that_comes_twice_is_dropped_the_second_time_while_its_record_waits_and_after(rig: Rig) -> None:
    rig.see(9.0)
    rig.see(8.0)
    first, second = rig.sent(), rig.sent()
    rig.answer(second)
    rig.answer(second, detections((0, 0, 5, 5, 0.5, 0)), teacher="other")
    rig.answer(first)
    rig.answer(first)
    assert rig.out == [(21, "big"), (22, "big")]
    assert rig.counted("verdicts_dropped") == {"repeat": 2}


@pytest.mark.parametrize("changes", [{"seq": 4711}, {"boot": "boot-0"}])
def test_a_verdict_on_another_frame_or_of_another_start_is_dropped(rig: Rig, changes: dict[str, Any]) -> None:
    rig.see(9.0)
    rig.answer(rig.sent(), **changes)
    assert rig.out == []
    assert rig.counted("verdicts_dropped") == {"unasked": 1}


def test_without_a_line_nothing_is_asked_and_nothing_waits(rig: Rig) -> None:
    rig.line.open = False
    rig.see(9.0)
    assert rig.out == [(21, "student")]
    assert rig.counted("escalations_skipped") == {"no-line": 1}
    rig.line.open = True
    rig.see(10.0)
    assert rig.out == [(21, "student")]


def test_an_allowance_of_0_asks_nothing() -> None:
    rig = Rig(per_minute=0)
    rig.see(9.0)
    assert rig.out == [(21, "student")]
    assert rig.counted("escalations_skipped") == {"allowance": 1}


def test_no_more_is_asked_in_a_minute_than_is_allowed() -> None:
    rig = Rig(per_minute=2, share=1.0)
    for number in range(10):
        rig.see(10.0 + number)
    assert rig.total("escalations") == 2
    assert rig.counted("escalations_skipped") == {"allowance": 8}
    rig.see(50.0, after_s=60.0)
    assert rig.total("escalations") == 3


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"detections": None, "reason": "allowance"}, "refused"),
        ({"detections": None, "reason": "anything at all"}, "refused"),
        ({"detections": None, "reason": "upload-limit"}, "upload-limit"),
        ({"detections": to_wire(detections((0, 0, 5, 5, 0.5, 6)))}, "malformed"),
    ],
)
def test_a_verdict_without_an_answer_that_can_be_used_lets_the_record_go_at_once(
    rig: Rig, changes: dict[str, Any], counted: str
) -> None:
    rig.see(9.0)
    rig.answer(rig.sent(), **changes)
    assert rig.out == [(21, "student")]
    assert rig.counted("verdicts_missed") == {counted: 1}


def test_a_full_line_asks_nothing_more(rig: Rig) -> None:
    for number in range(12):
        rig.see(10.0 + number)
    assert rig.counted("escalations_skipped") == {"queue-full": 4}


def test_what_a_full_line_does_not_ask_takes_nothing_of_the_allowance() -> None:
    rig = Rig(per_minute=MOST + 1, share=1.0)
    for number in range(MOST + 5):
        rig.see(10.0 + number)
    assert rig.counted("escalations_skipped") == {"queue-full": 5}
    rig.sent()
    rig.see(50.0)
    assert rig.total("escalations") == MOST + 1


def test_more_records_than_may_wait_push_the_oldest_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "HELD", 3)
    rig.see(9.0)
    asked = rig.sent()
    for _ in range(2):
        rig.see(1.0)
    rig.let_go()
    assert rig.out == []
    assert rig.cascade.full
    rig.see(1.0)
    rig.let_go()
    assert rig.out == [(seq, "student") for seq in range(21, 25)]
    assert rig.counted("verdicts_missed") == {"queue-full": 1}
    rig.answer(asked)
    assert rig.counted("verdicts_dropped") == {"late": 1}


def test_at_the_end_everything_goes_out(rig: Rig) -> None:
    rig.see(9.0)
    rig.see(1.0)
    rig.see(8.0)
    first, second = rig.sent(), rig.sent()
    rig.cascade.take(Verdict("gate", "boot-1", second.seq, to_wire(FOUND), "big"))
    left = [(one.seen.seq, one.answer is not None) for one in rig.cascade.flush("stopped")]
    assert left == [(21, False), (22, False), (23, True)]
    assert not rig.cascade.holding
    assert rig.counted("verdicts_missed") == {"stopped": 1}
    rig.answer(first)
    assert rig.counted("verdicts_dropped") == {"late": 1}


def test_only_so_many_questions_are_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "REMEMBERED", 1)
    asked = []
    for number in range(2):
        rig.see(9.0 + number)
        asked.append(rig.sent())
        rig.let_go(after_s=2.0)
    for one in asked:
        rig.answer(one)
    assert rig.counted("verdicts_dropped") == {"unasked": 1, "late": 1}
