from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.common.clock import SystemClock
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.selection.sampling import Draw
from culling.common.selection.selector import Released
from culling.common.wire.codec import jpeg_size
from culling.common.wire.messages import MAX_JPEG, Beside, to_wire
from culling.edge.model.shadow import Keep
from culling.edge.spool.recorder import DrawSize, Recorder, Selected, WindowEnd
from culling.edge.spool.spool import Spool
from culling.edge.watchdog import Watchdog
from support.scores import score
from support.waiting import wait_until


@dataclass(frozen=True)
class Still:
    """A frame of one grey; `gate`, if given, is waited for before its pixels are handed out."""

    seq: int
    camera: str = "gate"
    pts: float = 0.0
    captured: float = 1_800_000_000.0
    width: int = 64
    height: int = 48
    wait: threading.Event | None = None
    read: threading.Event | None = None

    def rgb(self) -> NDArray[np.uint8]:
        if self.read:
            self.read.set()
        if self.wait:
            assert self.wait.wait(10)
        return np.full((self.height, self.width, 3), 40 + self.seq, np.uint8)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), "edge")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite", 64 << 20, "boot")
    yield spool
    spool.close()


def recorder(spool: Spool, metrics: Metrics, depth: int = 16) -> Recorder:
    made = Recorder(spool, metrics, SystemClock(), Watchdog(), depth=depth, quality=90)
    made.start()
    return made


def selected(frame: Any, left: list[int], loss: float = 1.0, reason: str = "hard", held: bool = False) -> Selected:
    return Selected(frame, Detections.empty(), score(loss), reason, "gate-1", held, left.append)


def test_a_selected_frame_is_on_disk_as_jpeg_once_the_recorder_drained(spool: Spool, metrics: Metrics) -> None:
    left: list[int] = []
    subject = recorder(spool, metrics)

    subject.offer(selected(Still(7), left, loss=2.5, reason="audit"))

    assert subject.drain(10)
    [spooled] = spool.ready(10)
    assert (spooled.camera, spooled.frame, spooled.reason, spooled.loss) == ("gate", 7, "audit", 2.5)
    assert (spooled.model_id, spooled.boot) == ("gate-1", "boot")
    assert jpeg_size(spooled.jpeg) == (64, 48)
    assert left == [len(spooled.jpeg)]
    assert metrics.by("reason", "frames_forwarded", camera="gate") == {"audit": 1}
    assert metrics.total("frames_spooled", camera="gate") == 1


def test_a_recorder_that_was_never_started_has_nothing_to_drain(spool: Spool, metrics: Metrics) -> None:
    assert Recorder(spool, metrics, SystemClock(), Watchdog(), depth=16, quality=90).drain(0.0)


def test_held_frames_wait_for_the_end_of_their_window_and_the_best_leave(spool: Spool, metrics: Metrics) -> None:
    left: list[int] = []
    subject = recorder(spool, metrics)
    for seq, loss in enumerate([3.0, 1.0, 2.0]):
        subject.offer(selected(Still(seq), left, loss=loss, held=True))
    subject.end_window(WindowEnd("gate", Released(2), 1_800_000_000.0, left.append))

    assert subject.drain(10)

    assert sorted(spooled.loss for spooled in spool.ready(10)) == [2.0, 3.0]
    assert len(left) == 2
    assert metrics.by("reason", "frames_forwarded", camera="gate") == {"hard": 2}
    assert spool.counts("gate").reasons == {"window": 1}


def test_audits_leave_at_the_end_of_their_window_within_its_budget(spool: Spool, metrics: Metrics) -> None:
    left: list[int] = []
    subject = recorder(spool, metrics)
    for seq, lot in enumerate([0.3, 0.2]):
        draw = Draw(lot, 10 + seq)
        subject.offer(Selected(Still(seq), Detections.empty(), score(), "audit", "gate-1", True, left.append, draw))  # type: ignore[arg-type]
    subject.tally(DrawSize("gate", 20))
    subject.end_window(WindowEnd("gate", Released(0, 1, 25), 1_800_000_000.0, left.append))

    assert subject.drain(10)

    [audit] = spool.ready(10)
    assert (audit.frame, audit.reason, audit.probability) == (1, "audit", 0.04)
    assert left == [len(audit.jpeg)]
    assert metrics.by("reason", "frames_forwarded", camera="gate") == {"audit": 1}


def test_a_shadow_looks_at_frames_of_the_draw_alone_and_what_it_finds_leaves_with_them(
    spool: Spool, metrics: Metrics
) -> None:
    left: list[int] = []
    asked: list[Keep] = []
    subject = recorder(spool, metrics)
    told = (Detections.empty(), score(), "audit", "gate-1", True, left.append)
    subject.offer(Selected(Still(1), *told, Draw(0.2, 10), beside=asked.append))  # type: ignore[arg-type]
    subject.offer(Selected(Still(2), *told, beside=asked.append))  # type: ignore[arg-type]
    wait_until(lambda: spool.counts("gate").held == 2)
    (keep,) = asked
    found = Beside("gate-2", to_wire(Detections.empty()))
    assert keep(found)
    subject.end_window(WindowEnd("gate", Released(0, 1, 25), 1_800_000_000.0, left.append))
    assert subject.drain(10)
    [audit] = spool.ready(10)
    assert audit.shadow is not None
    assert msgspec.msgpack.decode(audit.shadow, type=Beside) == found
    assert not keep(found), "it left"


def test_what_a_draw_has_come_to_outlives_the_recorder(spool: Spool, metrics: Metrics) -> None:
    subject = recorder(spool, metrics)
    subject.tally(DrawSize("gate", 20))
    assert subject.drain(10)
    assert spool.held("gate").among == 20


def test_a_full_queue_drops_at_once_and_counts_why(spool: Spool, metrics: Metrics) -> None:
    left: list[int] = []
    go_on, reading = threading.Event(), threading.Event()
    subject = recorder(spool, metrics, depth=1)
    subject.offer(selected(Still(0, wait=go_on, read=reading), left))
    assert reading.wait(10)

    subject.offer(selected(Still(1), left))
    subject.offer(selected(Still(2), left))
    subject.offer(selected(Still(3), left, held=True))

    assert left == [0], "only a frame that was to leave is told to the budget as lost"
    assert metrics.by("reason", "frames_dropped", stage="recorder") == {"queue-full": 2}
    go_on.set()
    assert subject.drain(10)
    assert [spooled.frame for spooled in spool.ready(10)] == [0, 1]


def test_a_patient_caller_asks_first_and_is_told_when_there_is_room(spool: Spool, metrics: Metrics) -> None:
    room, go_on, reading = threading.Condition(), threading.Event(), threading.Event()
    subject = Recorder(spool, metrics, SystemClock(), Watchdog(), depth=1, quality=90, room=room)
    subject.start()
    subject.offer(selected(Still(0, wait=go_on, read=reading), []))
    assert reading.wait(10)
    assert not subject.full
    subject.offer(selected(Still(1), []), patient=True)
    assert subject.full

    with room:
        go_on.set()
        assert room.wait_for(lambda: not subject.full, 10)

    assert subject.drain(10)
    assert spool.counts("gate").made == 2


def test_a_patient_callers_frame_finds_a_place_even_if_others_were_faster(spool: Spool, metrics: Metrics) -> None:
    go_on, reading = threading.Event(), threading.Event()
    subject = recorder(spool, metrics, depth=1)
    subject.offer(selected(Still(0, wait=go_on, read=reading), []))
    assert reading.wait(10)
    subject.offer(selected(Still(1), []))

    subject.offer(selected(Still(2), []), patient=True)

    go_on.set()
    assert subject.drain(10)
    assert spool.counts("gate").made == 3
    assert metrics.total("frames_dropped") == 0


def test_a_picture_larger_than_any_message_is_dropped_and_counted(
    spool: Spool, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    subject = recorder(spool, metrics)
    monkeypatch.setattr("culling.edge.spool.recorder.encode_jpeg", lambda rgb, quality: bytes(MAX_JPEG + 1))

    subject.offer(selected(Still(0), left))

    assert subject.drain(10)
    assert spool.counts().made == 0
    assert left == [0]
    assert metrics.by("reason", "frames_dropped", stage="recorder") == {"oversized": 1}


def test_the_budget_hears_of_held_frames_that_were_gone_before_their_window_ended(
    tmp_path: Path, metrics: Metrics
) -> None:
    spool = Spool(tmp_path / "small.sqlite", 3000, "boot")
    left: list[int] = []
    subject = recorder(spool, metrics)
    for seq in range(5):
        subject.offer(selected(Still(seq), left, loss=float(seq), held=True))
    subject.end_window(WindowEnd("gate", Released(5), 1_800_000_000.0, left.append))

    assert subject.drain(10)

    assert spool.counts().reasons["pressure"] > 0
    assert len(left) == 5
    assert left.count(0) == spool.counts().reasons["pressure"]
    spool.close()


def test_the_budget_hears_of_a_window_that_the_disk_did_not_let_end(tmp_path: Path, metrics: Metrics) -> None:
    spool = Spool(tmp_path / "gone" / "spool.sqlite", 64 << 20, "boot")
    left: list[int] = []
    subject = recorder(spool, metrics)

    subject.end_window(WindowEnd("gate", Released(3), 1_800_000_000.0, left.append))

    assert subject.drain(10)
    assert left == [0, 0, 0]
    spool.close()


def test_a_disk_that_fails_costs_frames_and_is_used_again_when_it_recovers(tmp_path: Path, metrics: Metrics) -> None:
    folder = tmp_path / "gone"
    spool = Spool(folder / "spool.sqlite", 64 << 20, "boot")
    left: list[int] = []
    tried = threading.Event()
    subject = recorder(spool, metrics)

    subject.offer(selected(Still(0), left))
    subject.offer(Selected(Still(1), Detections.empty(), score(), "hard", "gate-1", False, lambda size: tried.set()))  # type: ignore[arg-type]
    assert tried.wait(10)
    was_failing = subject.failing
    folder.mkdir()
    subject.offer(selected(Still(2), left))

    assert subject.drain(10)
    assert was_failing
    assert not subject.failing
    assert subject.failure is None
    assert [spooled.frame for spooled in spool.ready(10)] == [2]
    assert left[0] == 0
    assert metrics.by("reason", "frames_dropped", camera="gate") == {"storage": 2}
    spool.close()


def test_draining_gives_up_when_the_time_is_over(spool: Spool, metrics: Metrics) -> None:
    go_on = threading.Event()
    subject = recorder(spool, metrics)
    subject.offer(selected(Still(0, wait=go_on), []))

    assert not subject.drain(0.05)

    go_on.set()
    assert subject.drain(10)


def test_what_draining_leaves_in_the_queue_is_counted_and_told(spool: Spool, metrics: Metrics) -> None:
    go_on, reading = threading.Event(), threading.Event()
    subject = recorder(spool, metrics)
    subject.offer(selected(Still(0, wait=go_on, read=reading), []))
    assert reading.wait(10)
    for seq in range(1, 4):
        subject.offer(selected(Still(seq), []))

    with capture_logs() as logs:
        assert not subject.drain(0.05)

    assert metrics.by("reason", "frames_dropped", stage="recorder") == {"stopped": 3}
    assert [event["frames"] for event in logs if event["event"] == "queued_frames_dropped"] == [3]
    go_on.set()
    assert subject.drain(10)
    assert [spooled.frame for spooled in spool.ready(10)] == [0]


class Torn(Still):
    def rgb(self) -> NDArray[np.uint8]:
        raise MemoryError("no such plane")


def test_a_frame_that_cannot_be_written_for_no_fault_of_the_disk_costs_itself(spool: Spool, metrics: Metrics) -> None:
    left: list[int] = []
    subject = recorder(spool, metrics)

    def broken(size: int) -> None:
        raise KeyError(size)

    for frame in (Still(0), Torn(1), Still(2)):
        subject.offer(selected(frame, left))
    subject.end_window(WindowEnd("gate", Released(2), 1_800_000_000.0, broken))
    subject.offer(selected(Still(3), left))

    assert subject.drain(10)
    assert [spooled.frame for spooled in spool.ready(10)] == [0, 2, 3]
    assert left.count(0) == 1, "the budget hears of the frame that was lost"
    assert len(left) == 4
    assert metrics.total("frames_dropped", camera="gate", reason="broken") == 1
    assert metrics.total("items_failed", loop="recorder") >= 2
    assert subject.failure is None
    assert not subject.failing, "the disk is well"
