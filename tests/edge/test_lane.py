from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.common.metrics import Metrics
from culling.common.selection.budget import ASSUMED_BYTES
from culling.common.selection.ranker import Ranker
from culling.common.selection.selector import Released, SelectorSettings, build_selector
from culling.common.wire.echo import decode
from culling.common.wire.ignored import place
from culling.common.wire.messages import Desired, Verdict, to_wire
from culling.common.wire.profile import Profile
from culling.edge.camera.difference import LEARNING, DifferenceSettings
from culling.edge.camera.latest import LatestFrame
from culling.edge.cascade import cascade
from culling.edge.cascade.cascade import LEAST, Cascade
from culling.edge.cascade.line import Line
from culling.edge.cascade.settings import CascadeSettings
from culling.edge.lane import Lane
from culling.edge.model.student import Student
from culling.edge.output.seen import Seen
from culling.edge.regions import IgnoreSettings, Regions, ZoneSettings
from culling.edge.settings import ConfidenceSettings
from culling.edge.spool.recorder import DrawSize, Selected, WindowEnd
from culling.edge.trace import Trace
from culling.edge.tracks import Tracks
from culling.edge.view.frames import LiveFrames
from culling.edge.view.settings import ViewSettings
from support import tiny
from support.clock import FakeClock
from support.scores import ranker

KEY = Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Still:
    seq: int
    captured: float
    arrived: float
    camera: str = "gate"
    pts: float = 0.0
    width: int = 160
    height: int = 128

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        return np.random.default_rng(self.seq).integers(0, 255, (height, width, 3), np.uint8)


class Same(Still):
    """A camera at which nothing moves."""

    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), 90, np.uint8)


class Torn(Still):
    def input(self, height: int, width: int) -> NDArray[np.uint8]:
        raise ValueError("no such plane")


@dataclass
class StandIn:
    """Stands for the camera, the slot, the recorder and the outputs at once, and remembers what it was told."""

    latest: LatestFrame[Any] = field(default_factory=LatestFrame)
    name: str = "gate"
    state: str = "live"
    student: Student | None = None
    observed: list[Detections] = field(default_factory=list)
    failures: list[ModelError] = field(default_factory=list)
    recorded: list[Selected] = field(default_factory=list)
    ends: list[WindowEnd] = field(default_factory=list)
    tallies: list[DrawSize] = field(default_factory=list)
    told: list[Seen] = field(default_factory=list)
    full: bool = False
    on_probation: bool = False
    shadow: tuple[str, int] = ("", 0)
    looked_at: list[tuple[int, Any]] = field(default_factory=list)
    stood: int = 0

    def stands(self, now: float) -> None:
        self.stood += 1

    def between_frames(self, now: float) -> Student | None:
        return self.student

    def observe(self, frame: Any, found: Detections, now: float) -> None:
        self.observed.append(found)

    def look_beside(self, frame: Any, keep: Any) -> None:
        self.looked_at.append((frame.seq, keep))

    def failed(self, error: ModelError, now: float) -> None:
        self.failures.append(error)

    def due(self, camera: str, captured: float) -> frozenset[str]:
        return frozenset({"all"})

    def offer_due(self, seen: Seen, to: frozenset[str]) -> None:
        assert to == {"all"}
        self.told.append(seen)

    def offer(self, item: Selected | Seen, patient: bool = False) -> None:
        if isinstance(item, Seen):
            self.told.append(item)
        else:
            self.recorded.append(item)

    def asking(self, camera: str) -> list[tuple[str, tuple[str, ...]]]:
        return [("output.all.classes", ("person", "cup"))]

    def end_window(self, end: WindowEnd) -> None:
        self.ends.append(end)

    def tally(self, tally: DrawSize) -> None:
        self.tallies.append(tally)


class Rig:
    def __init__(
        self,
        student: Student | None = None,
        trace: Trace | None = None,
        difference: DifferenceSettings = DifferenceSettings(),  # noqa: B008
        regions: Regions | None = None,
        tracks: Tracks | None = None,
        per_minute: int = 0,
        **selector: Any,
    ) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self.line = Line("boot-1", 90, self.clock, threading.Condition())
        self.line.open = True
        asking = CascadeSettings(per_minute=per_minute)
        self.cascade = Cascade(asking, "gate", self.line, self.metrics, self.clock) if per_minute else None
        self.live = LiveFrames(ViewSettings(), self.metrics, self.clock)
        self.around = StandIn(student=student)
        self.selector = build_selector(
            SelectorSettings(**{"bootstrap": 0, "spacing_s": 0, **selector}), random.Random(1)
        )
        around: Any = self.around
        self.lane = Lane(
            around,
            around,
            self.selector,
            ConfidenceSettings(),
            around,
            self.metrics,
            self.clock,
            trace,
            patient=False,
            difference=difference,
            outlets=around,
            regions=regions,
            tracks=tracks,
            live=(self.live,),
            cascade=self.cascade,
        )
        self.seq = 0

    def watched(self) -> Any:
        """Have somebody look; return the newest that waits for them, with its number, frame and what was seen."""
        self.live.newest("gate", 0, 0.0)
        return self.live._slots["gate"].waiting

    def frame(self) -> Any:
        self.clock.advance(0.04)
        self.seq += 1
        return Still(self.seq, self.clock.now(), self.clock.monotonic())

    def see(self, *scores: float) -> None:
        """Have one frame come in, in which the student finds boxes of these scores."""
        self.around.latest.put(self.frame())
        taken = self.lane.take()
        assert taken is not None
        self.lane.inferred(*taken, detections(*scores), seconds=0.01)

    def unsure(self) -> int:
        """Have sure frames come in, and then one whose student is unsure; return the number of the question."""
        for _ in range(LEAST):
            self.see(0.99)
        self.see(0.4, 0.5)
        assert self.line._asked
        return self.line._asked[-1].number

    def answer(self, number: int, found: Detections) -> None:
        self.lane.hear(Verdict("gate", "boot-1", number, to_wire(found), "big"))
        self.lane.release()

    def skips(self, *scores: float, frame: Any = None) -> bool:
        """Have one frame come in; return whether it is not inferred, else have the student find boxes in it."""
        self.around.latest.put(frame or Same(self.seq, self.clock.now(), self.clock.monotonic(), pts=0.04 * self.seq))
        self.clock.advance(0.04)
        self.seq += 1
        if (taken := self.lane.take()) is None:
            return True
        self.lane.inferred(*taken, detections(*scores), seconds=0.01)
        return False


def detections(*scores: float) -> Detections:
    boxes = np.tile(np.array([0, 0, 50, 50], np.float32), (len(scores), 1))
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64))


def student(counter: int = 1, rule: Ranker | None = None) -> Student:
    model = tiny.student()
    manifest = msgspec.structs.replace(tiny.ship(model, KEY, counter=counter).manifest, ranker=rule)
    return Student(manifest, open_graph(model, provider="cpu", threads=1))


@pytest.fixture(scope="module")
def first() -> Student:
    return student(1)


@pytest.fixture(scope="module")
def second() -> Student:
    return student(2)


def test_without_a_frame_there_is_nothing_to_take(first: Student) -> None:
    assert Rig(first).lane.take() is None


def test_a_patient_lane_takes_no_frame_that_the_recorder_has_no_room_for(first: Student) -> None:
    rig = Rig(first)
    around: Any = rig.around
    patient = Lane(
        around, around, rig.selector, ConfidenceSettings(), around, rig.metrics, rig.clock, None, patient=True
    )
    around.latest.put(rig.frame())
    around.full = True

    assert not patient.ready
    assert patient.take() is None
    assert rig.lane.ready, "a camera that waits for nobody has its frame taken, and dropped if need be"

    around.full = False
    assert patient.ready
    assert patient.take() is not None


def test_the_age_of_the_model_is_that_at_the_time_it_is_read(first: Student) -> None:
    rig = Rig(first)
    before = rig.metrics.total("model_age_seconds", camera="gate")

    rig.clock.advance(60)

    assert rig.metrics.total("model_age_seconds", camera="gate") == before + 60


def test_without_a_model_frames_are_counted_as_dropped(first: Student) -> None:
    rig = Rig(student=None)
    rig.around.latest.put(rig.frame())

    assert rig.lane.take() is None

    assert rig.metrics.by("reason", "frames_dropped", stage="student") == {"no-model": 1}
    assert rig.lane.state().model_id == "none"
    assert not rig.lane.inferring


# Whoever looks


@pytest.fixture
def unencoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what is offered where it waits: the frames of these tests are no pictures."""
    monkeypatch.setattr(LiveFrames, "_encode", lambda live, camera, slot: None)


@pytest.mark.usefixtures("unencoded")
def test_who_looks_sees_the_frame_and_what_was_told_of_it(first: Student) -> None:
    rig = Rig(first)
    rig.see(0.9)
    assert rig.watched() is None, "before somebody looked, nothing was kept"
    rig.see(0.9)
    shown = rig.watched()
    assert shown.seen is rig.around.told[-1]
    assert shown.frame.seq == 2


@pytest.mark.usefixtures("unencoded")
def test_who_looks_sees_frames_that_there_is_no_model_for(first: Student) -> None:
    rig = Rig(student=None)
    rig.watched()
    rig.around.latest.put(rig.frame())
    assert rig.lane.take() is None
    shown = rig.watched()
    assert (shown.frame.seq, shown.seen) == (1, None)


@pytest.mark.usefixtures("unencoded")
def test_where_nothing_moves_the_last_detections_stand_in_the_newest_picture(first: Student) -> None:
    rig = Rig(first, difference=DifferenceSettings(skip=True))
    for _ in range(3 * LEARNING):
        rig.watched()
        rig.clock.advance(1.0)
        if rig.skips(0.9):
            break
    shown = rig.watched()
    assert shown.seen is rig.around.told[-1]
    assert shown.frame.seq > shown.seen.seq


@pytest.mark.usefixtures("unencoded")
def test_from_another_source_nothing_is_seen_of_the_one_before(first: Student) -> None:
    rig = Rig(first)
    rig.watched()
    rig.see(0.9)
    assert rig.watched() is not None
    rig.lane.move(rig.lane.camera, False, Regions())
    assert rig.watched() is None


@pytest.mark.usefixtures("unencoded")
def test_a_camera_that_comes_back_shows_nothing_of_its_time_before(first: Student) -> None:
    rig = Rig(first)
    rig.watched()
    rig.see(0.9)
    assert rig.watched() is not None
    around: Any = rig.around
    Lane(
        around, around, rig.selector, ConfidenceSettings(), around, rig.metrics, rig.clock, None,
        patient=False, live=(rig.live,),
    )  # fmt: skip
    assert rig.watched() is None


def test_a_drawn_frame_is_held_with_its_draw_and_the_draw_is_written_down_by_the_minute(first: Student) -> None:
    rig = Rig(first, window_s=3600)

    rig.see()

    [audit] = rig.around.recorded
    assert (audit.reason, audit.held) == ("audit", True)
    assert audit.draw is not None
    assert audit.draw.among == 1
    assert rig.around.tallies == []
    rig.clock.advance(60.0)
    rig.see()
    rig.see()
    assert rig.around.tallies == [DrawSize("gate", 2)]
    rig.lane.end_window(final=True)
    assert rig.around.ends[-1].released == Released(0, 2, 3)
    assert rig.around.ends[-1].count == 2


def test_a_frame_with_nothing_in_it_has_loss_0_and_stays(first: Student) -> None:
    rig = Rig(first, audit_share=0)

    rig.see()

    assert rig.around.recorded == []
    assert rig.metrics.by("reason", "frames_skipped", camera="gate") == {"empty": 1}
    assert rig.lane.state().loss_mean == 0.0


def test_a_chosen_frame_goes_to_the_recorder_with_all_that_is_known_of_it(first: Student) -> None:
    rig = Rig(first, policy="cloud-only")

    rig.see(0.5, 0.4)

    [selected] = rig.around.recorded
    assert selected.frame.seq == 1
    assert selected.score.loss > 0
    assert selected.model_id == "gate-1"
    assert len(selected.found) == 2
    assert not selected.held


def test_the_model_beside_the_one_in_use_can_look_at_a_chosen_frame_later_and_the_cloud_is_told_of_it(
    first: Student,
) -> None:
    rig = Rig(first, policy="cloud-only")
    rig.see(0.5, 0.4)
    [selected] = rig.around.recorded
    assert rig.around.looked_at == []
    selected.beside(print)  # type: ignore[arg-type]
    assert rig.around.looked_at == [(1, print)]
    rig.around.shadow = ("gate-2", 7)
    assert (rig.lane.state().shadow, rig.lane.state().shadowed) == ("gate-2", 7)


def test_a_hard_frame_of_an_unknown_distribution_is_held_until_the_window_ends(first: Student) -> None:
    rig = Rig(first, window_s=10, frames_per_window=5, eager_share=0, audit_share=0)
    for _ in range(8):
        rig.see(0.5)
    assert all(selected.held for selected in rig.around.recorded)
    assert rig.around.ends == []

    rig.clock.advance(10)
    rig.lane.end_window()

    [end] = rig.around.ends
    assert (end.camera, end.count) == ("gate", 5)
    assert end.at == pytest.approx(rig.clock.now(), abs=1)


def test_a_window_ends_by_the_streams_time_though_no_frames_come(first: Student) -> None:
    rig = Rig(first, window_s=10)
    rig.see(0.5)
    rig.clock.step(-3600)
    rig.clock.advance(9)
    rig.lane.end_window()
    assert rig.around.ends == []

    rig.clock.advance(2)
    rig.lane.end_window()

    assert len(rig.around.ends) == 1


def test_the_last_window_of_a_file_ends_with_it(first: Student) -> None:
    rig = Rig(first)
    rig.see(0.5)

    rig.lane.end_window(final=True)

    assert len(rig.around.ends) == 1


def test_before_the_first_frame_no_window_ends(first: Student) -> None:
    rig = Rig(first)

    rig.lane.end_window(final=True)

    assert rig.around.ends == []


def test_every_result_reaches_the_slot_and_the_counters(first: Student) -> None:
    rig = Rig(first)
    for _ in range(3):
        rig.see(0.9, 0.3)

    assert len(rig.around.observed) == 3
    assert rig.metrics.total("frames_inferred", camera="gate") == 3
    assert rig.metrics.by("label", "detections", camera="gate") == {CLASSES[0]: 6}
    assert rig.lane.inferring


def test_a_new_model_starts_with_fresh_numbers(first: Student, second: Student) -> None:
    rig = Rig(first, window_s=10)
    for _ in range(10):
        rig.see(0.5, 0.5, 0.5)
    before = rig.lane.state()

    rig.around.student = second
    rig.see()

    after = rig.lane.state()
    assert (before.model_id, after.model_id) == ("gate-1", "gate-2")
    assert before.loss_mean > 0
    assert after.loss_mean == 0.0
    assert len(rig.around.ends) == 1, "the window of the old model is over"
    assert rig.metrics.total("model_counter", camera="gate") == 2


def test_a_learned_ranker_chooses_in_place_of_the_loss_which_is_told_all_the_same() -> None:
    rig = Rig(student(2, ranker(bias=1.0, possible=-0.5)), window_s=10, frames_per_window=1, eager_share=1)
    for scores in ((0.5, 0.5), (0.9,), ()):  # by this ranker the emptiest is the hardest
        rig.see(*scores)
    assert [len(selected.found) for selected in rig.around.recorded] == [2, 1, 0]
    assert rig.around.recorded[-1].score.loss == 0.0
    state = rig.lane.state()
    assert state.loss_mean > 0
    assert sum(state.losses) == 3


def test_a_ranker_has_no_threshold_of_the_loss(first: Student) -> None:
    rig = Rig(student(2, ranker(bias=0.3, best_score=0.5)), window_s=1, frames_per_window=5, eager_share=1)
    for _ in range(60):
        rig.see(0.5, 0.4)
    assert rig.selector.threshold > 0
    assert (rig.lane.state().threshold, rig.lane.state().ranker) == (0.0, True)
    assert rig.metrics.total("threshold", camera="gate") == 0.0
    assert rig.metrics.total("ranker", camera="gate") == 1.0

    rig.around.student = first
    rig.see(0.5)

    assert not rig.lane.state().ranker
    assert rig.metrics.total("ranker", camera="gate") == 0.0


def test_a_score_out_of_range_is_the_models_failure_and_not_the_agents(first: Student) -> None:
    rig = Rig(first)

    rig.see(1.5)

    assert len(rig.around.failures) == 1
    assert "gate-1" in str(rig.around.failures[0])
    assert rig.metrics.by("reason", "frames_dropped", stage="student") == {"inference-failed": 1}
    assert rig.metrics.total("frames_inferred") == 0


def test_only_classes_of_interest_are_scored(first: Student) -> None:
    rig = Rig(first)
    around: Any = rig.around
    confidence = ConfidenceSettings(interest=("bus",))
    rig.lane = Lane(around, around, rig.selector, confidence, around, rig.metrics, rig.clock, None, patient=False)

    rig.see(0.5)

    assert rig.lane.state().loss_mean == 0.0


def test_the_trace_tells_of_every_inferred_frame(first: Student, tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.jsonl", FakeClock())
    rig = Rig(first, trace, policy="edge-only")
    rig.see(0.5)
    rig.see()
    trace.close()

    assert (tmp_path / "trace.jsonl").read_text().count('"decision":"skip:edge-only"') == 2


def test_beats_add_up(first: Student) -> None:
    rig = Rig(first)
    rig.metrics.count("frames_seen", 5, camera="gate")
    rig.metrics.count("frames_dropped", 2, camera="gate", stage="camera", reason="newer")
    rig.metrics.count("frames_forwarded", 1, camera="gate", reason="audit")
    rig.see(0.5)

    state = rig.lane.state()

    assert (state.seen, state.inferred) == (5, 1)
    assert state.dropped == {"newer": 2}
    assert state.forwarded == {"audit": 1}


def test_inference_time_does_not_make_windows_shorter(first: Student) -> None:
    rig = Rig(first, window_s=10, frames_per_window=5, eager_share=0, audit_share=0)
    for _ in range(80):  # 9.6 s of a stream whose every frame is scored 80 ms after it arrived
        rig.around.latest.put(rig.frame())
        taken = rig.lane.take()
        assert taken is not None
        rig.clock.advance(0.08)
        rig.lane.inferred(*taken, detections(0.5), seconds=0.08)
        rig.lane.end_window()
    assert rig.around.ends == []


def desired(**wanted: Any) -> Desired:
    return Desired(**{"camera": "gate", "paused": False, "frames_per_window": None, "frame": None, **wanted})


def reasons(rig: Rig) -> list[str]:
    return [selected.reason for selected in rig.around.recorded]


def test_a_paused_camera_forwards_nothing_and_says_so(first: Student) -> None:
    rig = Rig(first, eager_share=0, window_s=1, audit_share=0)
    rig.see(0.5)
    rig.lane.apply(desired(paused=True))
    for _ in range(30):
        rig.see(0.5)
    assert len(rig.around.recorded) == 1
    assert [end.count for end in rig.around.ends] == [0]  # what was held before stays as well
    state = rig.lane.state()
    assert (state.paused, state.skipped["paused"], state.inferred) == (True, 30, 31)
    rig.lane.apply(desired())
    rig.see(0.5)
    assert len(rig.around.recorded) == 2


def test_what_a_pause_kept_back_is_not_taken_from_the_days_bytes(first: Student) -> None:
    rig = Rig(first, eager_share=0, window_s=1, audit_share=0, bytes_per_day=ASSUMED_BYTES)
    rig.see(0.5)
    rig.lane.apply(desired(paused=True))
    for _ in range(30):
        rig.see(0.5)
    rig.lane.apply(desired())
    rig.see(0.5)
    assert len(rig.around.recorded) == 2


def test_one_frame_is_taken_for_each_time_that_it_is_asked_for(first: Student) -> None:
    rig = Rig(first, policy="edge-only")
    rig.lane.apply(desired(frame=7, paused=True))
    for _ in range(3):
        rig.see()
    rig.lane.apply(desired(frame=7))
    rig.see()
    assert reasons(rig) == ["manual"]
    assert rig.lane.state().frame == 7
    rig.lane.apply(desired(frame=8))
    rig.see()
    assert reasons(rig) == ["manual", "manual"]


def test_another_budget_holds_from_the_next_frame_on(first: Student) -> None:
    rig = Rig(first, policy="cloud-only")
    rig.lane.apply(desired(frames_per_window=2))
    for _ in range(5):
        rig.see(0.5)
    assert reasons(rig) == ["hard", "hard"]
    assert rig.lane.state().frames_per_window == 2
    rig.lane.apply(desired())
    rig.see(0.5)
    assert len(reasons(rig)) == 3


def test_a_pace_is_followed_and_told(first: Student) -> None:
    rig = Rig(first, policy="interval", frames_per_window=4, window_s=1)
    assert rig.lane.state().pace == 1.0, "that it knows one"
    rig.lane.apply(desired(pace=0.5))
    for _ in range(20):
        rig.see(0.5)
    assert reasons(rig) == ["hard", "hard"]
    assert rig.lane.state().pace == 0.5


SKIP = DifferenceSettings(skip=True, longest_s=10)


def still(student: Student, **selector: Any) -> Rig:
    """Return a rig whose camera has been looked at for long enough for frames to be skipped."""
    rig = Rig(student, difference=SKIP, **selector)
    assert [rig.skips(0.5) for _ in range(LEARNING + 1)] == [False] * (LEARNING + 1)
    return rig


def test_every_frame_is_inferred_unless_asked_otherwise(first: Student) -> None:
    rig = Rig(first)
    assert [rig.skips(0.5) for _ in range(2 * LEARNING)] == [False] * 2 * LEARNING
    assert rig.metrics.total("frames_dropped") == 0


def test_a_frame_that_shows_nothing_new_is_counted_and_the_last_detections_stand(first: Student) -> None:
    rig = still(first)
    before = rig.lane.state()
    assert [rig.skips(0.5) for _ in range(4)] == [True] * 4
    after = rig.lane.state()
    assert rig.metrics.by("reason", "frames_dropped", stage="difference") == {"unchanged": 4}
    assert (after.inferred, after.dropped) == (before.inferred, {"unchanged": 4})
    assert (after.loss_mean, after.losses, after.skipped) == (before.loss_mean, before.losses, before.skipped)
    assert rig.around.stood == 4


def test_a_window_ends_though_nothing_new_is_seen(first: Student) -> None:
    rig = still(first, window_s=3600)
    rig.clock.advance(3600)
    assert rig.skips(0.5)
    assert len(rig.around.ends) == 1


def test_a_model_on_probation_sees_every_frame(first: Student) -> None:
    rig = still(first)
    rig.around.on_probation = True
    assert not rig.skips(0.5)
    rig.around.on_probation = False
    assert rig.skips(0.5)


def test_a_new_model_resets_what_was_learned_of_the_old_one(first: Student, second: Student) -> None:
    rig = still(first)
    rig.around.student = second
    assert [rig.skips(0.5) for _ in range(LEARNING + 1)] == [False] * (LEARNING + 1)
    assert rig.skips(0.5)


def test_a_frame_that_is_asked_for_comes_though_it_shows_nothing_new(first: Student) -> None:
    rig = still(first, policy="edge-only")
    rig.lane.apply(desired(frame=7))
    assert not rig.skips(0.5)
    assert reasons(rig) == ["manual"]
    assert rig.skips(0.5)


def test_a_picture_that_cannot_be_compared_is_left_to_the_student_to_refuse(first: Student) -> None:
    rig = still(first)
    rig.around.latest.put(Torn(rig.seq, rig.clock.now(), rig.clock.monotonic()))
    assert rig.lane.take() is not None
    rig.lane.drop("unreadable")
    assert not rig.skips(0.5)
    assert rig.skips(0.5)


def test_after_a_frame_on_which_the_student_failed_the_next_is_inferred(first: Student) -> None:
    rig = still(first)
    rig.around.latest.put(Still(rig.seq, rig.clock.now(), rig.clock.monotonic(), pts=0.04 * rig.seq))
    assert rig.lane.take() is not None
    rig.lane.failed(ModelError("out of memory"))
    assert not rig.skips(0.5)


EVERYWHERE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def test_outputs_are_told_what_was_found_and_decided_in_every_inferred_frame(first: Student) -> None:
    rig = Rig(first)
    rig.see(0.9, 0.6)
    rig.see()

    full, empty = rig.around.told
    assert (full.camera, full.seq, full.model, full.counter) == ("gate", 1, "gate-1", 1)
    assert (full.width, full.height, full.classes) == (160, 128, CLASSES)
    assert full.found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert full.loss > 0
    assert full.decision.reason
    assert (len(empty.found), empty.loss) == (0, 0)


def test_what_is_ignored_is_in_no_loss_no_count_no_frame_that_leaves_and_no_output(first: Student) -> None:
    rig = Rig(first, regions=Regions([IgnoreSettings(polygon=EVERYWHERE, classes=("person",))]), policy="cloud-only")
    rig.see(0.9, 0.4)

    assert rig.around.told[0].loss == 0
    assert len(rig.around.told[0].found) == 0
    assert len(rig.around.recorded[0].found) == 0
    assert rig.around.recorded[0].ignored == (place(EVERYWHERE, ("person",)),), "it travels with the frame"
    assert rig.metrics.total("detections") == 0
    assert len(rig.around.observed[0]) == 2, "a model on probation is judged by all that it finds"


def test_settings_that_ask_for_what_a_student_does_not_find_are_warned_of_by_their_key(first: Student) -> None:
    with capture_logs() as logs:
        Rig(first, regions=Regions([IgnoreSettings(polygon=EVERYWHERE, classes=("bottle", "car"))]))
    told = {log["key"]: log["classes"] for log in logs if log["event"] == "classes_unknown"}
    assert told == {"camera.gate.ignore.0.classes": ["bottle"], "output.all.classes": ["cup"]}


def test_zones_are_counted_and_another_source_may_have_others(first: Student) -> None:
    rig = Rig(first, regions=Regions((), [ZoneSettings(name="yard", polygon=EVERYWHERE)]))
    rig.see(0.9, 0.6, 0.2)
    around: Any = rig.around

    assert rig.around.told[0].zones["yard"].present == {"person": 2}
    assert rig.lane.now().zones == ("yard",)

    rig.lane.move(around, False, Regions())
    rig.see(0.9)
    assert rig.around.told[1].zones == {}


# The cascade


@pytest.mark.usefixtures("unencoded")
def test_a_record_waits_for_the_teacher_and_goes_out_with_its_answer_in_zones_and_all(first: Student) -> None:
    rig = Rig(first, per_minute=10, regions=Regions((), [ZoneSettings(name="yard", polygon=EVERYWHERE)]))
    rig.watched()
    number = rig.unsure()
    rig.see(0.99)
    assert [one.seq for one in rig.around.told] == list(range(1, LEAST + 1)), "the next one waits behind it"
    assert rig.lane.holding
    shown = rig.watched().seen
    assert (shown.seq, len(shown.found)) == (LEAST + 1, 2), "who looks sees the student's boxes at once"

    rig.answer(number, detections(0.9, 0.8, 0.7))

    asked, behind = rig.around.told[LEAST:]
    assert (asked.seq, asked.teacher, asked.model) == (LEAST + 1, "big", "gate-1")
    assert asked.zones["yard"].present == {"person": 3}
    assert (behind.seq, behind.teacher, behind.zones["yard"].present) == (LEAST + 2, "", {"person": 1})
    assert not rig.lane.holding
    assert len(rig.around.recorded) + rig.metrics.total("frames_skipped") == LEAST + 2, "selection waits for nothing"


def test_at_the_deadline_the_students_record_goes_out(first: Student) -> None:
    rig = Rig(first, per_minute=10)
    number = rig.unsure()
    rig.clock.advance(1.9)
    rig.lane.release()
    assert len(rig.around.told) == LEAST
    rig.clock.advance(0.2)
    rig.lane.release()
    assert (rig.around.told[-1].seq, rig.around.told[-1].teacher) == (LEAST + 1, "")
    assert rig.around.told[-1].found.scores.tolist() == pytest.approx([0.4, 0.5])
    rig.answer(number, detections(0.9))
    assert len(rig.around.told) == LEAST + 1
    assert rig.metrics.by("reason", "verdicts_dropped")["late"] == 1


def test_what_a_camera_ignores_is_ignored_in_the_teachers_answer_too(first: Student) -> None:
    ignoring = Regions([IgnoreSettings(polygon=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))])
    rig = Rig(first, per_minute=10, regions=ignoring)
    boxes = Detections(
        np.array([[0, 0, 50, 50], [100, 0, 150, 50]], np.float32), np.array([0.9, 0.8], np.float32), np.zeros(2, int)
    )
    rig.answer(rig.unsure(), boxes)
    assert rig.around.told[-1].found.scores.tolist() == pytest.approx([0.9])


def test_from_another_source_nothing_is_held_of_the_one_before(first: Student) -> None:
    rig = Rig(first, per_minute=10)
    number, around = rig.unsure(), rig.around
    source: Any = around
    rig.lane.move(source, False, Regions())
    assert (len(around.told), rig.lane.holding) == (LEAST + 1, False)
    rig.answer(number, detections(0.9))
    assert len(around.told) == LEAST + 1


def test_a_verdict_to_a_camera_that_asks_nothing_is_dropped(first: Student) -> None:
    rig = Rig(first)
    rig.answer(1, detections(0.9))
    assert rig.metrics.by("reason", "verdicts_dropped")["unasked"] == 1
    assert rig.around.told == []
    rig.lane.flush()


def test_a_file_waits_while_as_many_records_wait_as_may(first: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "HELD", 1)
    rig = Rig(first, per_minute=10)
    rig.lane._patient = True
    number = rig.unsure()
    rig.around.latest.put(rig.frame())
    assert not rig.lane.ready
    rig.answer(number, detections(0.9))
    assert rig.lane.ready


# Profiles


SLOW = Profile(rate=5.0)


def profiled(student: Student, profile: Profile, **rig: Any) -> Rig:
    subject = Rig(student, **{"audit_share": 0, **rig})
    subject.lane.apply(desired(profile=profile))
    return subject


def test_a_profile_is_followed_told_and_what_it_spares_is_counted_by_its_reason(first: Student) -> None:
    rig = Rig(first, audit_share=0)
    assert rig.lane.state().profile == Profile(), "that it knows profiles"
    rig.lane.apply(desired(profile=Profile(rate=12.5, difference=8)))
    told = [rig.skips(0.5) for _ in range(6)]
    assert told == [False] + [True] * 5
    assert rig.metrics.by("reason", "frames_dropped", stage="profile") == {"thinned": 1, "unchanged": 4}
    state = rig.lane.state()
    assert (state.inferred, state.dropped) == (1, {"thinned": 1, "unchanged": 4})
    assert state.profile == Profile(rate=12.5, difference=8)
    assert rig.around.stood == 5


def test_a_profile_that_is_taken_back_spares_nothing_more(first: Student) -> None:
    rig = profiled(first, SLOW)
    rig.skips(0.5)
    assert rig.skips(0.5)
    rig.lane.apply(desired())
    assert not any(rig.skips(0.5) for _ in range(20))
    assert rig.lane.state().profile == Profile()


def test_a_camera_whose_own_settings_skip_frames_follows_no_profile_and_says_so(first: Student) -> None:
    rig = profiled(first, SLOW, difference=SKIP)
    assert not any(rig.skips(0.5) for _ in range(20))
    assert rig.lane.state().profile is None


def test_a_frame_that_is_wanted_is_looked_at_by_any_profile(first: Student) -> None:
    rig = profiled(first, SLOW, policy="edge-only")
    rig.skips(0.5)
    rig.lane.apply(desired(profile=SLOW, frame=7))
    assert not rig.skips(0.5)
    assert reasons(rig) == ["manual"]
    assert rig.skips(0.5)
    rig.around.on_probation = True
    assert not rig.skips(0.5)


def test_after_a_failure_and_with_another_student_the_next_frame_is_looked_at(first: Student, second: Student) -> None:
    rig = profiled(first, SLOW)
    rig.skips(0.5)
    rig.lane.drop("inference-failed")
    assert not rig.skips(0.5)
    rig.around.student = second
    assert not rig.skips(0.5)
    around: Any = rig.around
    rig.lane.move(around, False, Regions())
    assert not rig.skips(0.5)
    assert rig.skips(0.5)


def test_a_picture_that_cannot_be_made_small_is_left_to_the_student(first: Student) -> None:
    rig = profiled(first, SLOW)
    rig.skips(0.5)
    rig.around.latest.put(Torn(rig.seq, rig.clock.now(), rig.clock.monotonic()))
    assert rig.lane.take() is not None


def test_a_window_ends_though_a_profile_spares_every_frame(first: Student) -> None:
    rig = profiled(first, SLOW, window_s=3600)
    rig.skips(0.5)
    rig.clock.advance(3600)
    assert rig.skips(0.5)
    assert len(rig.around.ends) == 1


def test_audits_are_a_sample_of_all_frames_and_each_is_looked_at_with_an_echo(first: Student) -> None:
    """Frames come 25 a second, for four minutes; the student looks at one a second."""
    rig = profiled(first, Profile(rate=1.0, echo=True), audit_share=0.05, frames_per_window=40, window_s=60.0)
    for _ in range(6_000):
        rig.skips()  # it finds nothing, so that no frame is hard
    ends = [end for end in rig.around.ends if end.released.audits]
    assert {round(end.released.among, -1) for end in ends} == {1500}, "spared frames count in the draw"
    assert {end.released.audits for end in ends} == {2}
    assert {one.reason for one in rig.around.recorded} == {"audit"}
    windows: dict[int, list[Selected]] = {}
    for one in rig.around.recorded:
        windows.setdefault(int((one.frame.pts + 0.001) // 60), []).append(one)
    drawn = [one for each in windows.values() for one in sorted(each, key=_lot)[:2]]
    # The first frames of a window are drawn before anybody could look ahead: two seconds of an hour, or of a minute.
    heard = [decode(one.echo) for one in drawn if one.echo]
    assert len(heard) >= len(drawn) - 1
    assert {round(one.rate) for one in heard} == {25}
    assert sum(one.stood is not None for one in heard) >= 0.8 * len(heard), "what was told of them is an earlier answer"
    spent = rig.metrics.total("frames_inferred") / 6_000
    assert spent < 0.3, "looks before audits: of a window of a minute a sixth, of one of an hour as many in all"


def _lot(one: Selected) -> float:
    assert one.draw is not None
    return one.draw.lot


def test_no_frame_is_drawn_while_a_camera_is_paused(first: Student) -> None:
    rig = Rig(first, audit_share=0.05, frames_per_window=40)
    rig.lane.apply(desired(paused=True, profile=SLOW))
    assert [rig.skips(0.5) for _ in range(4)] == [False, True, True, True]
    assert rig.selector.among == 0


def test_a_held_hard_frame_has_an_echo_too_since_it_may_be_drawn_in_the_end(first: Student) -> None:
    hard = {"eager_share": 0, "duplicate_change": 0, "audit_share": 0.05, "frames_per_window": 40}
    rig = profiled(first, Profile(echo=True), **hard)
    for _ in range(60):
        rig.skips(0.9)
    rig.skips(0.3, 0.35, 0.4)
    assert rig.around.recorded[-1].reason == "hard"
    assert decode(rig.around.recorded[-1].echo).stood is None
    assert rig.around.recorded[0].echo == b"", "before two seconds nothing can be told"
