from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.precision import Hardness, frame_precision, hardness, worst
from culling.common.frame import Detections
from support.scenes import boxes_at, pycocotools_precision, random_scene

NOTHING = Detections.empty()
MAN = boxes_at((0, 0, 10, 30, 0.9, 0))
CAR = boxes_at((50, 50, 90, 70, 0.8, 2))
BOTH = boxes_at((0, 0, 10, 30, 0.9, 0), (50, 50, 90, 70, 0.8, 2))


@pytest.mark.parametrize("seed", range(10))
def test_a_frame_is_scored_as_pycocotools_scores_its_classes(seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed))
    student, teacher = scene.found, scene.true
    both = np.union1d(student.labels, teacher.labels)
    wanted = [
        pycocotools_precision([Compared(student, teacher)], label)[0] if label in teacher.labels else 0.0
        for label in both
    ]
    assert frame_precision(Compared(student, teacher)) == pytest.approx(np.mean(wanted) if wanted else 1.0, abs=1e-12)


def test_the_order_of_boxes_does_not_matter() -> None:
    swapped = boxes_at((50, 50, 90, 70, 0.8, 2), (0, 0, 10, 30, 0.9, 0))
    assert frame_precision(Compared(swapped, BOTH)) == 1.0


def test_one_box_finds_one_object_only() -> None:
    crowd = boxes_at((0, 0, 10, 30, 1, 0), (1, 0, 11, 30, 1, 0))
    assert frame_precision(Compared(MAN, crowd)) == pytest.approx(51 / 101)


def test_a_class_that_only_one_side_sees_counts_as_zero() -> None:
    assert frame_precision(Compared(BOTH, MAN)) == 0.5
    assert frame_precision(Compared(MAN, BOTH)) == 0.5


def test_classes_of_no_interest_do_not_count() -> None:
    assert frame_precision(Compared(BOTH, MAN), interest=[0]) == 1.0
    assert hardness(Compared(CAR, NOTHING), interest=[0]) == Hardness(0.0, "easy")


def test_a_frame_where_both_see_nothing_is_easy() -> None:
    assert hardness(Compared(NOTHING, NOTHING)) == Hardness(0.0, "easy")


def test_a_frame_that_the_student_got_right_is_easy() -> None:
    assert hardness(Compared(BOTH, BOTH)) == Hardness(0.0, "easy")


def test_a_frame_where_only_the_student_sees_something_is_a_hard_negative() -> None:
    assert hardness(Compared(MAN, NOTHING)) == Hardness(1.0, "hard-negative")


def test_a_frame_where_the_student_misses_everything_is_hard() -> None:
    assert hardness(Compared(NOTHING, BOTH)) == Hardness(1.0, "hard")
    assert hardness(Compared(MAN, BOTH)) == Hardness(0.5, "hard")


def test_what_the_teacher_doubts_is_no_false_alarm() -> None:
    assert hardness(Compared(BOTH, MAN, CAR)) == Hardness(0.0, "easy")
    assert hardness(Compared(CAR, NOTHING, CAR)) == Hardness(0.0, "easy")
    assert hardness(Compared(CAR, NOTHING, MAN)) == Hardness(1.0, "hard-negative"), "a doubt about something else"


def test_what_the_teacher_doubts_is_not_missed_either() -> None:
    assert hardness(Compared(NOTHING, NOTHING, BOTH)) == Hardness(0.0, "easy")


def test_the_hardest_frames_are_kept_hardest_first() -> None:
    frames = [Hardness(0.2, "hard"), Hardness(1.0, "hard-negative"), Hardness(0.0, "easy"), Hardness(0.7, "hard")]
    assert worst(frames, 2) == [1, 3]
    assert worst(frames, 9) == [1, 3, 0, 2]
    assert worst(frames, 0) == []


def test_of_equally_hard_frames_the_earlier_goes_first() -> None:
    assert worst([Hardness(0.5, "hard")] * 5, 3) == [0, 1, 2]
