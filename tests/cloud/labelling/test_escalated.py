from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.labelling.escalated import KEPT_S, UNREADABLE, Escalated
from culling.cloud.store.history import KEEP_MINUTES
from culling.cloud.store.index import answers, escalations
from culling.cloud.weights.classes import CLASSES
from culling.common.wire.messages import from_wire
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections

FOUND = detections((1, 2, 30, 40, 0.9, 2))


class Rig:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.state = CloudState(folder, self.clock)
        self.escalated = Escalated(self.state.index, self.clock)

    def ask(self, seq: int = 1, sha256: str = "a" * 64, within_s: float = 2.0) -> int:
        name = self.escalated.ask(CAMERA, "boot-1", seq, sha256, b"jpeg", CLASSES, within_s)
        assert name is not None
        return name

    def pictures(self) -> int:
        with self.state.index.read() as connection:
            query = sa.select(sa.func.count()).where(escalations.c.jpeg.is_not(None))
            return connection.execute(query).scalar_one()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.state.close()


def test_a_question_is_taken_once_and_its_answer_read(rig: Rig) -> None:
    assert not rig.escalated.waiting
    name = rig.ask()
    assert rig.escalated.waiting
    [one] = rig.escalated.take(8)
    assert (one.id, one.camera, one.classes, one.jpeg) == (name, CAMERA, CLASSES, b"jpeg")
    assert rig.escalated.take(8) == []
    assert not rig.escalated.waiting
    assert rig.escalated.answered([name]) == {}
    rig.escalated.answer({name: FOUND}, "big")
    answer = rig.escalated.answered([name, 99])[name]
    assert answer.detections is not None
    assert from_wire(answer.detections).labels.tolist() == [2]
    assert (answer.teacher, answer.reason) == ("big", "")
    assert rig.pictures() == 0


def test_what_the_teacher_looked_at_is_counted_by_camera_and_minute(rig: Rig) -> None:
    def counted() -> list[tuple[str, int, int]]:
        with rig.state.index.read() as connection:
            rows = connection.execute(sa.select(answers).order_by(answers.c.minute, answers.c.camera)).all()
        return [(row.camera, row.minute, row.frames) for row in rows]

    minute = int(rig.clock.now() // 60)
    yard = rig.escalated.ask("yard", "boot-1", 1, "b" * 64, b"jpeg", CLASSES, 2.0)
    assert yard is not None
    rig.escalated.answer({rig.ask(1): FOUND, rig.ask(2): FOUND, rig.ask(3): None, yard: FOUND}, "big")
    rig.escalated.answer({rig.ask(4): FOUND}, "big")
    assert counted() == [(CAMERA, minute, 3), ("yard", minute, 1)], "one picture could not be decoded"
    rig.clock.advance(60)
    rig.escalated.answer({rig.ask(5): FOUND}, "big")
    assert counted()[-1] == (CAMERA, minute + 1, 1)
    rig.clock.advance(60.0 * KEEP_MINUTES)
    rig.escalated.tidy()
    assert [row[1] for row in counted()] == [minute + 1]


def test_the_oldest_questions_are_taken_first(rig: Rig) -> None:
    names = []
    for seq in range(1, 4):
        names.append(rig.ask(seq))
        rig.clock.advance(0.1)
    assert [one.id for one in rig.escalated.take(2)] == names[:2]
    assert [one.id for one in rig.escalated.take(2)] == names[2:]


def test_a_question_that_came_before_is_not_written_again(rig: Rig) -> None:
    rig.ask()
    assert rig.escalated.ask(CAMERA, "boot-1", 1, "b" * 64, b"other", CLASSES, 2.0) is None
    assert rig.escalated.ask(CAMERA, "boot-2", 1, "b" * 64, b"other", CLASSES, 2.0) is not None


def test_what_is_overdue_is_nobodys_and_its_picture_goes(rig: Rig) -> None:
    rig.ask()
    rig.clock.advance(2.0)
    assert not rig.escalated.waiting
    assert rig.escalated.take(8) == []
    assert rig.pictures() == 1
    rig.escalated.tidy()
    assert rig.pictures() == 0


def test_a_picture_that_cannot_be_read_has_no_answer_and_says_why(rig: Rig) -> None:
    name = rig.ask()
    rig.escalated.answer({name: None}, "big")
    answer = rig.escalated.answered([name])[name]
    assert (answer.detections, answer.reason) == (None, UNREADABLE)


def test_an_answer_that_came_when_nobody_waited_is_known_and_was_late(rig: Rig) -> None:
    since, name = rig.clock.now(), rig.ask()
    rig.clock.advance(2.0)
    rig.escalated.answer({name: FOUND}, "big")
    assert not rig.escalated.known(["a" * 64], CLASSES, "big", since)["a" * 64].in_time


def test_an_answer_is_known_by_its_picture_for_a_while_by_the_same_teacher_and_classes(rig: Rig) -> None:
    since = rig.clock.now()
    rig.escalated.answer({rig.ask(): FOUND}, "big")
    known = rig.escalated.known(["a" * 64, "b" * 64], CLASSES, "big", since)
    assert list(known) == ["a" * 64]
    assert known["a" * 64].found.scores.tolist() == pytest.approx([0.9])
    assert known["a" * 64].in_time
    assert rig.escalated.known(["a" * 64], CLASSES[:2], "big", since) == {}
    assert rig.escalated.known(["a" * 64], CLASSES, "other", since) == {}
    assert rig.escalated.known(["a" * 64], CLASSES, "big", since + 1) == {}
    rig.clock.advance(KEPT_S + 1)
    rig.escalated.tidy()
    assert rig.escalated.known(["a" * 64], CLASSES, "big", since) == {}
