from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.bill.rates import Rates
from culling.cloud.bill.timed import TimedTeacher
from culling.cloud.model.teacher import Teacher
from support.cloud import CloudState
from support.detectors import picture, small_student


def test_labels_are_those_of_the_teacher_and_their_time_is_noted(tmp_path: Path) -> None:
    cloud, teacher = CloudState(tmp_path), Teacher(small_student(), short_side=96)
    rates, ticks = Rates(cloud.index), iter([5.0, 8.0, 9.0])
    frames = [picture(96, 128), picture(96, 160)]
    timed = TimedTeacher(teacher, rates, lambda: next(ticks))
    assert [len(found) for found in timed.label(frames)] == [len(found) for found in teacher.label(frames)]
    rate = rates.read("label")
    assert rate.seconds == 3.0
    assert rate.gflops == pytest.approx(teacher.each.gflops((96, 128)) + teacher.each.gflops((96, 160)))
    assert rate.each == teacher.each
    assert timed.label([]) == []
    assert rates.read("label") == rate, "nothing was labelled"
    cloud.close()
