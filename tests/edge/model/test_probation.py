from __future__ import annotations

import numpy as np
import pytest

from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import NotFiniteError
from culling.edge.model.probation import NOTHING, ModelComparison, Probation, ProbationEnd, ProbationRules

RULES = ProbationRules(frames=10, seconds=5.0, samples=8)


def boxes(count: int, label: int = 0, score: float = 0.9) -> Detections:
    corners = np.arange(count, dtype=np.float32)[:, None] * 100 + np.array([0, 0, 50, 50], np.float32)
    return Detections(corners, np.full(count, score, np.float32), np.full(count, label, np.int64))


def same(old: Detections, new: Detections, old_s: float = 0.02, new_s: float = 0.02) -> ModelComparison:
    return ModelComparison(old_s, new_s, old, new)


def probation(frames: int = 0, seen: Detections | None = None) -> Probation:
    trial = Probation(RULES, started=100.0)
    for _ in range(frames):
        trial.saw(boxes(1) if seen is None else seen)
    return trial


def after(trial: Probation, comparisons: list[ModelComparison], at: float = 100.0) -> ProbationEnd | None:
    for comparison in comparisons:
        trial.compared(comparison)
    return trial.verdict(at)


GOOD = [same(boxes(2), boxes(2))] * 8


class TestPassing:
    def test_it_passes_once_frames_seconds_and_samples_are_enough(self) -> None:
        assert after(probation(10), GOOD, at=105.0) == ProbationEnd(True, "passed")

    @pytest.mark.parametrize(
        ("frames", "samples", "at"), [(9, 8, 105.0), (10, 7, 105.0), (10, 8, 104.9)], ids=["frames", "samples", "time"]
    )
    def test_it_lasts_until_then(self, frames: int, samples: int, at: float) -> None:
        assert after(probation(frames), GOOD[:samples], at) is None

    def test_a_road_that_is_empty_for_both_models_is_no_fault(self) -> None:
        nothing = Detections.empty()

        assert after(probation(10, nothing), [same(nothing, nothing)] * 8, at=105.0) == ProbationEnd(True, "passed")

    def test_what_the_old_model_was_unsure_of_may_vanish(self) -> None:
        vanished = [same(boxes(1, score=0.6), Detections.empty())] * 8

        assert after(probation(10, Detections.empty()), vanished, at=105.0) == ProbationEnd(True, "passed")

    def test_a_machine_that_got_slower_for_both_is_no_fault(self) -> None:
        assert after(probation(10), [same(boxes(1), boxes(1), 0.5, 0.6)] * 8, at=105.0) == ProbationEnd(True, "passed")

    def test_comparisons_that_could_not_be_made_do_not_hold_it_up(self) -> None:
        assert after(probation(10), [NOTHING] * 8, at=105.0) == ProbationEnd(True, "passed")

    def test_two_failed_frames_are_forgiven(self) -> None:
        trial = probation(10)
        trial.failed(ModelError("out of memory"))
        trial.failed(ModelError("out of memory"))

        assert after(trial, GOOD, at=105.0) == ProbationEnd(True, "passed")


class TestFailing:
    def test_three_failed_frames_end_it_at_once(self) -> None:
        trial = probation()
        for _ in range(3):
            trial.failed(ModelError("out of memory"))

        assert trial.verdict(100.0) == ProbationEnd(False, "errors")

    def test_one_result_that_is_no_number_ends_it_at_once(self) -> None:
        trial = probation(100)
        trial.failed(NotFiniteError("NaN"))

        assert trial.verdict(100.0) == ProbationEnd(False, "not-finite")

    def test_more_than_twice_the_previous_model_s_time_ends_it(self) -> None:
        slow = same(boxes(1), boxes(1), 0.02, 0.05)

        assert after(probation(1), [slow] * 4) is None
        assert after(probation(1), [slow] * 5) == ProbationEnd(False, "slow")

    def test_a_larger_input_may_take_its_time_but_no_more(self) -> None:
        fair = ModelComparison(0.02, 0.05, boxes(1), boxes(1), larger=2.0)
        slow = ModelComparison(0.02, 0.09, boxes(1), boxes(1), larger=2.0)

        assert after(probation(10), [fair] * 8, at=105.0) == ProbationEnd(True, "passed")
        assert after(probation(1), [slow] * 5) == ProbationEnd(False, "slow")

    def test_other_work_on_the_machine_does_not_make_a_model_slow(self) -> None:
        disturbed = [same(boxes(1), boxes(1), 0.02, 0.09)] * 7 + [same(boxes(1), boxes(1), 0.02, 0.02)]

        assert after(probation(10), disturbed[::-1], at=105.0) == ProbationEnd(True, "passed")

    def test_finding_nothing_at_all_where_the_previous_model_was_sure_ends_it(self) -> None:
        blind = same(boxes(1), Detections.empty())

        assert after(probation(50, Detections.empty()), [blind] * 4) is None
        assert after(probation(50, Detections.empty()), [blind] * 5) == ProbationEnd(False, "always-empty")

    def test_one_detection_shows_that_it_can_see(self) -> None:
        trial = probation(50, Detections.empty())
        trial.saw(boxes(1))

        assert after(trial, [same(boxes(1), Detections.empty())] * 5) is None

    def test_other_classes_for_the_same_boxes_end_it(self) -> None:
        assert after(probation(1), [same(boxes(5), boxes(5, label=1))] * 2) == ProbationEnd(False, "class-drift")

    def test_few_boxes_or_few_changes_are_no_drift(self) -> None:
        assert after(probation(1), [same(boxes(9), boxes(9, label=1))]) is None
        assert after(probation(1), [same(boxes(5), boxes(5, label=1)), same(boxes(6), boxes(6))]) is None

    def test_boxes_in_other_places_say_nothing_about_classes(self) -> None:
        elsewhere = Detections(boxes(9).boxes + 5000, boxes(9).scores, boxes(9, label=1).labels)

        assert after(probation(1), [same(boxes(9), elsewhere)] * 3) is None


class TestSampling:
    def test_samples_keep_their_distance_and_end(self) -> None:
        trial = Probation(ProbationRules(samples=3, spacing_s=0.5), started=0.0)

        taken = [at for at in np.arange(0, 10, 0.1) if trial.wants_sample(float(at))]

        assert taken == pytest.approx([0.0, 0.5, 1.0])
