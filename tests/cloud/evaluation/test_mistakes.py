from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.mistakes import EASY, EXACT, FOUND, in_vain, mistakes
from culling.cloud.evaluation.precision import hardness
from culling.common.frame import Detections, iou
from support.scenes import boxes_at, random_scene

NOTHING = Detections.empty()
MAN = boxes_at((0, 0, 10, 30, 0.9, 0))
CAR = boxes_at((50, 50, 90, 70, 0.8, 2))
BOTH = boxes_at((0, 0, 10, 30, 0.9, 0), (50, 50, 90, 70, 0.8, 2))
FAR = 5000.0


def joined(one: Detections, other: Detections) -> Detections:
    parts = [np.concatenate(pair) for pair in zip(*(vars(each).values() for each in (one, other)), strict=True)]
    order = np.argsort(-parts[1], kind="stable")
    return Detections(*(part[order] for part in parts))


def scene(seed: int) -> Compared:
    return random_scene(np.random.default_rng(seed))


seeds = st.integers(0, 10_000)
scores = st.floats(0.2, 1.0)
classes = st.integers(0, 5)


@given(seeds)
def test_a_student_that_answers_as_the_teacher_makes_no_mistake(seed: int) -> None:
    teacher = scene(seed).true
    assert mistakes(Compared(teacher, teacher)).mass == 0


@given(seeds)
def test_where_there_is_no_mass_every_label_is_found_and_nothing_else_is(seed: int) -> None:
    """Not the other way round: average precision forgives loose boxes, and false alarms below the last hit."""
    frame = scene(seed)
    if mistakes(frame).mass == 0:
        assert hardness(frame).value == 0


@given(seeds, scores, classes)
def test_an_object_more_that_is_missed_adds_the_teachers_score(seed: int, score: float, label: int) -> None:
    frame = scene(seed)
    missed = joined(frame.true, boxes_at((FAR, FAR, FAR + 10, FAR + 30, score, label)))
    more = mistakes(Compared(frame.found, missed, frame.doubtful)).mass - mistakes(frame).mass
    assert more == pytest.approx(score, abs=1e-5)


@given(seeds, scores, classes)
def test_a_phantom_adds_its_own_score_whatever_else_is_there(seed: int, score: float, label: int) -> None:
    frame = scene(seed)
    phantom = joined(frame.found, boxes_at((FAR, FAR, FAR + 10, FAR + 30, score, label)))
    more = mistakes(Compared(phantom, frame.true, frame.doubtful)).mass - mistakes(frame).mass
    assert more == pytest.approx(score, abs=1e-5)


@given(seeds, classes)
def test_a_class_weighs_the_same_whatever_other_classes_there_are(seed: int, label: int) -> None:
    frame = scene(seed)
    alone = mistakes(frame, interest=[label])
    assert alone.mass == pytest.approx(sum(mistakes(frame).by_class().get(label, {}).values()))


@given(seeds)
def test_mass_is_the_sum_of_its_classes_and_kinds(seed: int) -> None:
    found = mistakes(scene(seed))
    assert found.mass == pytest.approx(sum(sum(kinds.values()) for kinds in found.by_class().values()))
    assert (found.weights > 0).all()


def test_a_phantom_of_an_absent_class_hardly_matters_where_all_else_is_right() -> None:
    crowd = boxes_at(*((20 * at, 0, 20 * at + 10, 30, 0.9, 2) for at in range(20)))
    phantom = joined(crowd, boxes_at((900, 0, 910, 30, 0.21, 5)))
    assert hardness(Compared(phantom, crowd)).value == 0.5
    assert mistakes(Compared(phantom, crowd)).mass == pytest.approx(0.21)


def test_doubtful_labels_are_no_misses_and_excuse_their_own_class_alone() -> None:
    assert mistakes(Compared(NOTHING, NOTHING, MAN)).mass == 0
    assert mistakes(Compared(MAN, NOTHING, MAN)).mass == 0
    bus = boxes_at((0, 0, 10, 30, 0.7, 4))
    assert mistakes(Compared(bus, NOTHING, MAN)).by_class() == {
        4: pytest.approx({"missed": 0, "false": 0.7, "loose": 0})
    }


def test_a_detection_partly_on_a_doubtful_label_is_a_false_alarm() -> None:
    wide = boxes_at((0, 0, 40, 30, 0.7, 0))
    assert mistakes(Compared(wide, NOTHING, MAN)).mass == pytest.approx(0.7)
    small = boxes_at((2, 2, 8, 20, 0.7, 0))
    assert mistakes(Compared(small, NOTHING, MAN)).mass == 0


@pytest.mark.parametrize("shift", [0, 0.4, 1, 2, 3])
def test_a_found_box_weighs_by_how_badly_it_fits(shift: float) -> None:
    moved = boxes_at((shift, 0, 10 + shift, 30, 0.3, 0))
    fit = float(iou(moved.boxes, MAN.boxes)[0, 0])
    wanted = 0.9 * min(1, max(0, (EXACT - fit) / (EXACT - FOUND)))
    assert mistakes(Compared(moved, MAN)).mass == pytest.approx(wanted, abs=1e-5)


def test_one_box_finds_one_object_and_the_other_detection_is_a_false_alarm() -> None:
    twice = boxes_at((0, 0, 10, 30, 0.9, 0), (0, 0, 10, 29, 0.4, 0))
    assert mistakes(Compared(twice, MAN)).by_class() == {0: pytest.approx({"missed": 0, "false": 0.4, "loose": 0})}
    assert mistakes(Compared(MAN, joined(MAN, MAN))).mass == pytest.approx(0.9)


def test_boxes_a_little_off_are_easy_and_the_least_false_alarm_is_not() -> None:
    assert mistakes(Compared(boxes_at((0.9, 0, 10.9, 30, 0.9, 0)), MAN)).easy
    assert not mistakes(Compared(boxes_at((50, 50, 60, 80, EASY, 0)), NOTHING)).easy
    assert mistakes(Compared(BOTH, BOTH)).easy


def test_classes_of_no_interest_do_not_count() -> None:
    assert mistakes(Compared(CAR, NOTHING), interest=[0]).mass == 0
    assert mistakes(Compared(NOTHING, BOTH), interest=[0]).mass == pytest.approx(0.9)


def test_each_mistake_says_where_it_is() -> None:
    found = mistakes(Compared(CAR, MAN))
    assert found.boxes.tolist() == [[0, 0, 10, 30], [50, 50, 90, 70]]
    assert found.kinds.tolist() == [0, 1]


def test_mistakes_that_do_not_fall_in_three_lessons_are_taught_in_vain() -> None:
    taught = [{"stays": 1.0, "falls": 1.5}, {"stays": 1.0, "falls": 1.7, "twice": 1.0}, {"stays": 0.9, "falls": 2.0}]
    now = {"stays": 0.95, "falls": 1.4, "twice": 1.0, "new": 1.0}
    assert in_vain(now, taught) == {"stays"}
    assert in_vain({"stays": 0.5}, taught) == set(), "until they do"
    assert in_vain(now, [*taught, {"twice": 1.0}]) == {"stays"}
    assert in_vain(now, [{"twice": 1.1}, *taught, {"twice": 1.0}]) == {"stays", "twice"}
    assert in_vain({}, taught) == in_vain(now, []) == set()
