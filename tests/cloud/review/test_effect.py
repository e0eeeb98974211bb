from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.review.decide import Decided, decide
from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import Students
from culling.cloud.review.effect import effect
from support.cloud import CAMERA, CloudState
from support.reviewing import by_number, reviewing
from support.stored import split

Reviewed = tuple[CloudState, Desk]
FRAMES = 40
"""So many that both sorts are among those in which the teacher sees a car that the student has not."""


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Reviewed]:
    cloud, desk = reviewing(tmp_path, FRAMES)
    yield cloud, desk
    cloud.close()


def say(desk: Desk, *decided: Decided) -> None:
    decide(desk, CAMERA, decided, "ann@desk", lambda _: None)


def odd(held_out: bool) -> int:
    """Return a frame in which the teacher sees a car that the student has not."""
    return next(seq for seq in split(FRAMES)[held_out] if seq % 2)


def test_where_nobody_decided_anything_there_is_no_effect(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    assert effect(desk, CAMERA, Students(desk, CAMERA)) is None
    say(desk, Decided(by_number(cloud)[odd(True)].id, "skip"))
    assert effect(desk, CAMERA, Students(desk, CAMERA)) is None


def test_a_decision_on_a_frame_to_judge_by_changes_how_right_the_student_is_there(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    say(desk, Decided(by_number(cloud)[odd(True)].id, "student"))
    found = effect(desk, CAMERA, Students(desk, CAMERA))
    assert found == {
        "decided": 1,
        "judges": 1,
        "by_teacher": 0.5,
        "by_people": 1.0,
        "told": "Of the last 1 decision 1 is on frames that students are judged by: the student's boxes "
        "have AP50 1.00 there by what people said, AP50 0.50 by what the teacher had said.",
    }


def test_a_frame_where_the_teacher_saw_nothing_keeps_that_word(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    say(desk, Decided(by_number(cloud)[odd(True)].id, "corrected", []))
    found = effect(desk, CAMERA, Students(desk, CAMERA))
    assert found is not None
    assert (found["by_teacher"], found["by_people"]) == (0.5, None)
    assert "no object there by what people said" in found["told"]


def test_decisions_on_frames_to_train_on_change_nothing_there(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    say(desk, Decided(by_number(cloud)[odd(False)].id, "student"))
    found = effect(desk, CAMERA, Students(desk, CAMERA))
    assert found is not None
    assert (found["judges"], found["by_teacher"], found["by_people"]) == (0, None, None)
    assert found["told"] == "Of the last 1 decision none is on a frame that students are judged by."
