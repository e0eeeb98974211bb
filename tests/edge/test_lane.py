from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from culling.common.errors import ModelError
from culling.common.frame import CLASSES, Detections
from culling.common.graph import open_graph
from culling.common.metrics import Metrics
from culling.common.selection.budget import ASSUMED_BYTES
from culling.common.selection.ranker import Ranker
from culling.common.selection.selector import SelectorSettings, build_selector
from culling.common.wire.messages import Desired
from culling.edge.camera.difference import LEARNING, DifferenceSettings
from culling.edge.camera.latest import LatestFrame
from culling.edge.lane import Lane
from culling.edge.model.student import Student
from culling.edge.recorder import Selected, WindowEnd
from culling.edge.settings import ConfidenceSettings
from culling.edge.trace import Trace
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
    """Stands for the camera, the slot and the recorder at once, and remembers what it was told."""

    latest: LatestFrame[Any] = field(default_factory=LatestFrame)
    name: str = "gate"
    state: str = "live"
    student: Student | None = None
    observed: list[Detections] = field(default_factory=list)
    failures: list[ModelError] = field(default_factory=list)
    recorded: list[Selected] = field(default_factory=list)
    ends: list[WindowEnd] = field(default_factory=list)
    full: bool = False
    on_probation: bool = False
    stood: int = 0

    def stands(self, now: float) -> None:
        self.stood += 1

    def between_frames(self, now: float) -> Student | None:
        return self.student

    def observe(self, frame: Any, found: Detections, now: float) -> None:
        self.observed.append(found)

    def failed(self, error: ModelError, now: float) -> None:
        self.failures.append(error)

    def offer(self, selected: Selected, patient: bool = False) -> None:
        self.recorded.append(selected)

    def end_window(self, end: WindowEnd) -> None:
        self.ends.append(end)


class Bench:
    def __init__(
        self,
        student: Student | None = None,
        trace: Trace | None = None,
        difference: DifferenceSettings = DifferenceSettings(),  # noqa: B008
        **selector: Any,
    ) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry(), "edge")
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
        )
        self.seq = 0

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
    assert Bench(first).lane.take() is None


def test_a_patient_lane_takes_no_frame_that_the_recorder_has_no_room_for(first: Student) -> None:
    bench = Bench(first)
    around: Any = bench.around
    patient = Lane(
        around, around, bench.selector, ConfidenceSettings(), around, bench.metrics, bench.clock, None, patient=True
    )
    around.latest.put(bench.frame())
    around.full = True

    assert not patient.ready
    assert patient.take() is None
    assert bench.lane.ready, "a camera that waits for nobody has its frame taken, and dropped if need be"

    around.full = False
    assert patient.ready
    assert patient.take() is not None


def test_the_age_of_the_model_is_that_at_the_time_it_is_read(first: Student) -> None:
    bench = Bench(first)
    before = bench.metrics.total("model_age_seconds", camera="gate")

    bench.clock.advance(60)

    assert bench.metrics.total("model_age_seconds", camera="gate") == before + 60


def test_without_a_model_frames_are_counted_as_dropped(first: Student) -> None:
    bench = Bench(student=None)
    bench.around.latest.put(bench.frame())

    assert bench.lane.take() is None

    assert bench.metrics.by("reason", "frames_dropped", stage="student") == {"no-model": 1}
    assert bench.lane.state().model_id == "none"
    assert not bench.lane.inferring


def test_a_frame_with_nothing_in_it_has_loss_0_and_stays(first: Student) -> None:
    bench = Bench(first)

    bench.see()

    assert bench.around.recorded == []
    assert bench.metrics.by("reason", "frames_skipped", camera="gate") == {"empty": 1}
    assert bench.lane.state().loss_mean == 0.0


def test_a_chosen_frame_goes_to_the_recorder_with_all_that_is_known_of_it(first: Student) -> None:
    bench = Bench(first, policy="cloud-only")

    bench.see(0.5, 0.4)

    [selected] = bench.around.recorded
    assert selected.frame.seq == 1
    assert selected.score.loss > 0
    assert selected.model_id == "gate-1"
    assert len(selected.found) == 2
    assert not selected.held


def test_a_hard_frame_of_an_unknown_distribution_is_held_until_the_window_ends(first: Student) -> None:
    bench = Bench(first, window_s=10, frames_per_window=5, eager_share=0, audit_share=0)
    for _ in range(8):
        bench.see(0.5)
    assert all(selected.held for selected in bench.around.recorded)
    assert bench.around.ends == []

    bench.clock.advance(10)
    bench.lane.end_window()

    [end] = bench.around.ends
    assert (end.camera, end.count) == ("gate", 5)
    assert end.at == pytest.approx(bench.clock.now(), abs=1)


def test_a_window_ends_by_the_streams_time_though_no_frames_come(first: Student) -> None:
    bench = Bench(first, window_s=10)
    bench.see(0.5)
    bench.clock.step(-3600)
    bench.clock.advance(9)
    bench.lane.end_window()
    assert bench.around.ends == []

    bench.clock.advance(2)
    bench.lane.end_window()

    assert len(bench.around.ends) == 1


def test_the_last_window_of_a_file_ends_with_it(first: Student) -> None:
    bench = Bench(first)
    bench.see(0.5)

    bench.lane.end_window(final=True)

    assert len(bench.around.ends) == 1


def test_before_the_first_frame_no_window_ends(first: Student) -> None:
    bench = Bench(first)

    bench.lane.end_window(final=True)

    assert bench.around.ends == []


def test_every_result_reaches_the_slot_and_the_counters(first: Student) -> None:
    bench = Bench(first)
    for _ in range(3):
        bench.see(0.9, 0.3)

    assert len(bench.around.observed) == 3
    assert bench.metrics.total("frames_inferred", camera="gate") == 3
    assert bench.metrics.by("label", "detections", camera="gate") == {CLASSES[0]: 6}
    assert bench.lane.inferring


def test_a_new_model_starts_with_fresh_numbers(first: Student, second: Student) -> None:
    bench = Bench(first, window_s=10)
    for _ in range(10):
        bench.see(0.5, 0.5, 0.5)
    before = bench.lane.state()

    bench.around.student = second
    bench.see()

    after = bench.lane.state()
    assert (before.model_id, after.model_id) == ("gate-1", "gate-2")
    assert before.loss_mean > 0
    assert after.loss_mean == 0.0
    assert len(bench.around.ends) == 1, "the window of the old model is over"
    assert bench.metrics.total("model_counter", camera="gate") == 2


def test_a_learned_ranker_chooses_in_place_of_the_loss_which_is_told_all_the_same() -> None:
    bench = Bench(student(2, ranker(bias=1.0, possible=-0.5)), window_s=10, frames_per_window=1, eager_share=1)
    for scores in ((0.5, 0.5), (0.9,), ()):  # by this ranker the emptiest is the hardest
        bench.see(*scores)
    assert [len(selected.found) for selected in bench.around.recorded] == [2, 1, 0]
    assert bench.around.recorded[-1].score.loss == 0.0
    state = bench.lane.state()
    assert state.loss_mean > 0
    assert sum(state.losses) == 3


def test_a_ranker_has_no_threshold_of_the_loss(first: Student) -> None:
    bench = Bench(student(2, ranker(bias=0.3, best_score=0.5)), window_s=1, frames_per_window=5, eager_share=1)
    for _ in range(60):
        bench.see(0.5, 0.4)
    assert bench.selector.threshold > 0
    assert (bench.lane.state().threshold, bench.lane.state().ranker) == (0.0, True)
    assert bench.metrics.total("threshold", camera="gate") == 0.0
    assert bench.metrics.total("ranker", camera="gate") == 1.0

    bench.around.student = first
    bench.see(0.5)

    assert not bench.lane.state().ranker
    assert bench.metrics.total("ranker", camera="gate") == 0.0


def test_a_score_out_of_range_is_the_models_failure_and_not_the_agents(first: Student) -> None:
    bench = Bench(first)

    bench.see(1.5)

    assert len(bench.around.failures) == 1
    assert "gate-1" in str(bench.around.failures[0])
    assert bench.metrics.by("reason", "frames_dropped", stage="student") == {"inference-failed": 1}
    assert bench.metrics.total("frames_inferred") == 0


def test_only_classes_of_interest_are_scored(first: Student) -> None:
    bench = Bench(first)
    around: Any = bench.around
    confidence = ConfidenceSettings(interest=("bus",))
    bench.lane = Lane(
        around, around, bench.selector, confidence, around, bench.metrics, bench.clock, None, patient=False
    )

    bench.see(0.5)

    assert bench.lane.state().loss_mean == 0.0


def test_the_trace_tells_of_every_inferred_frame(first: Student, tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.jsonl", FakeClock())
    bench = Bench(first, trace, policy="edge-only")
    bench.see(0.5)
    bench.see()
    trace.close()

    assert (tmp_path / "trace.jsonl").read_text().count('"decision":"skip:edge-only"') == 2


def test_beats_add_up(first: Student) -> None:
    bench = Bench(first)
    bench.metrics.count("frames_seen", 5, camera="gate")
    bench.metrics.count("frames_dropped", 2, camera="gate", stage="camera", reason="newer")
    bench.metrics.count("frames_forwarded", 1, camera="gate", reason="audit")
    bench.see(0.5)

    state = bench.lane.state()

    assert (state.seen, state.inferred) == (5, 1)
    assert state.dropped == {"newer": 2}
    assert state.forwarded == {"audit": 1}


def test_inference_time_does_not_make_windows_shorter(first: Student) -> None:
    bench = Bench(first, window_s=10, frames_per_window=5, eager_share=0, audit_share=0)
    for _ in range(80):  # 9.6 s of a stream whose every frame is scored 80 ms after it arrived
        bench.around.latest.put(bench.frame())
        taken = bench.lane.take()
        assert taken is not None
        bench.clock.advance(0.08)
        bench.lane.inferred(*taken, detections(0.5), seconds=0.08)
        bench.lane.end_window()
    assert bench.around.ends == []


def desired(**wanted: Any) -> Desired:
    return Desired(**{"camera": "gate", "paused": False, "frames_per_window": None, "frame": None, **wanted})


def reasons(bench: Bench) -> list[str]:
    return [selected.reason for selected in bench.around.recorded]


def test_a_paused_camera_forwards_nothing_and_says_so(first: Student) -> None:
    bench = Bench(first, eager_share=0, window_s=1, audit_share=0)
    bench.see(0.5)
    bench.lane.apply(desired(paused=True))
    for _ in range(30):
        bench.see(0.5)
    assert len(bench.around.recorded) == 1
    assert [end.count for end in bench.around.ends] == [0]  # what was held before stays as well
    state = bench.lane.state()
    assert (state.paused, state.skipped["paused"], state.inferred) == (True, 30, 31)
    bench.lane.apply(desired())
    bench.see(0.5)
    assert len(bench.around.recorded) == 2


def test_what_a_pause_kept_back_is_not_taken_from_the_days_bytes(first: Student) -> None:
    bench = Bench(first, eager_share=0, window_s=1, audit_share=0, bytes_per_day=ASSUMED_BYTES)
    bench.see(0.5)
    bench.lane.apply(desired(paused=True))
    for _ in range(30):
        bench.see(0.5)
    bench.lane.apply(desired())
    bench.see(0.5)
    assert len(bench.around.recorded) == 2


def test_one_frame_is_taken_for_each_time_that_it_is_asked_for(first: Student) -> None:
    bench = Bench(first, policy="edge-only")
    bench.lane.apply(desired(frame=7, paused=True))
    for _ in range(3):
        bench.see()
    bench.lane.apply(desired(frame=7))
    bench.see()
    assert reasons(bench) == ["manual"]
    assert bench.lane.state().frame == 7
    bench.lane.apply(desired(frame=8))
    bench.see()
    assert reasons(bench) == ["manual", "manual"]


def test_another_budget_holds_from_the_next_frame_on(first: Student) -> None:
    bench = Bench(first, policy="cloud-only")
    bench.lane.apply(desired(frames_per_window=2))
    for _ in range(5):
        bench.see(0.5)
    assert reasons(bench) == ["hard", "hard"]
    assert bench.lane.state().frames_per_window == 2
    bench.lane.apply(desired())
    bench.see(0.5)
    assert len(reasons(bench)) == 3


SKIP = DifferenceSettings(skip=True, longest_s=10)


def still(student: Student, **selector: Any) -> Bench:
    """Return a bench whose camera has been looked at for long enough for frames to be skipped."""
    bench = Bench(student, difference=SKIP, **selector)
    assert [bench.skips(0.5) for _ in range(LEARNING + 1)] == [False] * (LEARNING + 1)
    return bench


def test_every_frame_is_inferred_unless_asked_otherwise(first: Student) -> None:
    bench = Bench(first)
    assert [bench.skips(0.5) for _ in range(2 * LEARNING)] == [False] * 2 * LEARNING
    assert bench.metrics.total("frames_dropped") == 0


def test_a_frame_that_shows_nothing_new_is_counted_and_the_last_detections_stand(first: Student) -> None:
    bench = still(first)
    before = bench.lane.state()
    assert [bench.skips(0.5) for _ in range(4)] == [True] * 4
    after = bench.lane.state()
    assert bench.metrics.by("reason", "frames_dropped", stage="difference") == {"unchanged": 4}
    assert (after.inferred, after.dropped) == (before.inferred, {"unchanged": 4})
    assert (after.loss_mean, after.losses, after.skipped) == (before.loss_mean, before.losses, before.skipped)
    assert bench.around.stood == 4


def test_a_window_ends_though_nothing_new_is_seen(first: Student) -> None:
    bench = still(first, window_s=3600)
    bench.clock.advance(3600)
    assert bench.skips(0.5)
    assert len(bench.around.ends) == 1


def test_a_model_on_probation_sees_every_frame(first: Student) -> None:
    bench = still(first)
    bench.around.on_probation = True
    assert not bench.skips(0.5)
    bench.around.on_probation = False
    assert bench.skips(0.5)


def test_a_new_model_is_learnt_of_anew(first: Student, second: Student) -> None:
    bench = still(first)
    bench.around.student = second
    assert [bench.skips(0.5) for _ in range(LEARNING + 1)] == [False] * (LEARNING + 1)
    assert bench.skips(0.5)


def test_a_frame_that_is_asked_for_comes_though_it_shows_nothing_new(first: Student) -> None:
    bench = still(first, policy="edge-only")
    bench.lane.apply(desired(frame=7))
    assert not bench.skips(0.5)
    assert reasons(bench) == ["manual"]
    assert bench.skips(0.5)


def test_a_picture_that_cannot_be_compared_is_left_to_the_student_to_refuse(first: Student) -> None:
    bench = still(first)
    bench.around.latest.put(Torn(bench.seq, bench.clock.now(), bench.clock.monotonic()))
    assert bench.lane.take() is not None
    bench.lane.drop("unreadable")
    assert not bench.skips(0.5)
    assert bench.skips(0.5)


def test_after_a_frame_on_which_the_student_failed_the_next_is_inferred(first: Student) -> None:
    bench = still(first)
    bench.around.latest.put(Still(bench.seq, bench.clock.now(), bench.clock.monotonic(), pts=0.04 * bench.seq))
    assert bench.lane.take() is not None
    bench.lane.failed(ModelError("out of memory"))
    assert not bench.skips(0.5)
