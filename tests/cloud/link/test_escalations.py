from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.labelling.escalated import Escalated
from culling.cloud.link.escalations import LOOK_S, TIDY_S, Escalations
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ProtocolError
from culling.common.metrics import Metrics
from culling.common.wire.messages import Escalate, FromCloud, Verdict, from_wire
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections, hard_frame

JPEG = hard_frame(1)[1]
FOUND = detections((1, 2, 30, 40, 0.9, 2))


class Rig:
    """What an ingest does, what its edge is told, and a worker that answers when it is told to."""

    def __init__(self, folder: Path, per_minute: int = 100) -> None:
        self.clock = FakeClock()
        self.state = CloudState(folder, self.clock)
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        self.told: list[tuple[str, FromCloud]] = []
        self.escalations = Escalations(self.state.index, per_minute, self.metrics, self.clock, self._send)
        self.worker = Escalated(self.state.index, self.clock)

    def _send(self, edge_key: str, message: FromCloud) -> bool:
        self.told.append((edge_key, message))
        return True

    def ask(
        self,
        seq: int = 1,
        camera: str = CAMERA,
        classes: tuple[str, ...] = CLASSES,
        jpeg: bytes = JPEG,
        width: int = 64,
    ) -> None:
        asked = Escalate(camera, "boot-1", seq, 1.8e9, 2.0, "gate-1", width, 48)
        self.escalations.take(f"key-of-{camera}", asked, jpeg, classes)

    def answer(self) -> None:
        self.worker.answer({one.id: FOUND for one in self.worker.take(8)}, "big")
        self.turn()

    def turn(self, seconds: float = LOOK_S) -> None:
        self.clock.advance(seconds)
        self.escalations.turn()

    def unanswered(self) -> dict[str, float]:
        return {why: count for why, count in self.metrics.by("reason", "escalations_unanswered").items() if count}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.state.close()


def test_each_edge_gets_the_answer_to_its_own_question(rig: Rig) -> None:
    rig.ask(1)
    rig.ask(1, "yard")
    assert rig.escalations.waiting
    rig.turn()
    assert rig.told == []
    rig.answer()
    assert not rig.escalations.waiting
    assert [(key, one.camera, one.boot, one.seq) for key, one in rig.told if isinstance(one, Verdict)] == [
        ("key-of-gate", "gate", "boot-1", 1),
        ("key-of-yard", "yard", "boot-1", 1),
    ]
    for _, one in rig.told:
        assert isinstance(one, Verdict)
        assert one.detections is not None
        assert (from_wire(one.detections).labels.tolist(), one.teacher, one.reason) == ([2], "big", "")
    assert rig.metrics.total("escalations_received") == rig.metrics.total("verdicts_sent") == 2


def test_an_answer_that_comes_too_late_is_not_sent(rig: Rig) -> None:
    rig.ask()
    taken = rig.worker.take(8)
    rig.turn(2.0)
    assert not rig.escalations.waiting
    rig.worker.answer({one.id: FOUND for one in taken}, "big")
    rig.turn()
    assert rig.told == []
    assert rig.unanswered() == {"overdue": 1}


def test_a_question_that_comes_twice_is_answered_once(rig: Rig) -> None:
    rig.ask()
    rig.ask()
    rig.answer()
    assert len(rig.told) == 1
    assert rig.unanswered() == {"repeat": 1}


@pytest.mark.parametrize("per_minute", [0, 2])
def test_beyond_the_allowance_of_its_camera_there_is_a_no_at_once(tmp_path: Path, per_minute: int) -> None:
    rig = Rig(tmp_path, per_minute)
    for seq in range(1, per_minute + 2):
        rig.ask(seq)
    assert rig.told == [("key-of-gate", Verdict(CAMERA, "boot-1", per_minute + 1, reason="allowance"))]
    rig.ask(1, "yard")
    assert len(rig.told) == (1 if per_minute else 2), "each camera has its own"
    assert rig.escalations.allowed == bool(per_minute)
    rig.state.close()


def test_without_the_students_classes_nobody_can_answer(rig: Rig) -> None:
    rig.ask(classes=())
    assert rig.told == [("key-of-gate", Verdict(CAMERA, "boot-1", 1, reason="unknown-model"))]
    assert not rig.escalations.waiting


def test_a_picture_that_cannot_be_decoded_is_told_at_once(rig: Rig) -> None:
    rig.ask()
    rig.worker.answer({one.id: None for one in rig.worker.take(8)}, "big")
    rig.turn()
    assert rig.told == [("key-of-gate", Verdict(CAMERA, "boot-1", 1, reason="unreadable"))]


@pytest.mark.parametrize(("jpeg", "width"), [(b"no picture", 64), (JPEG, 65)])
def test_what_is_not_the_picture_that_it_says_is_refused(rig: Rig, jpeg: bytes, width: int) -> None:
    with pytest.raises(ProtocolError):
        rig.ask(jpeg=jpeg, width=width)
    assert not rig.worker.waiting


def test_pictures_that_nobody_answered_are_not_kept(rig: Rig) -> None:
    rig.ask()
    rig.turn(2.0)
    rig.turn(TIDY_S)
    rig.clock.step(-60.0)
    assert not rig.worker.waiting, "not even to a clock that was set back"
