from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.bill.rates import Rates
from culling.cloud.bill.timed import TimedTeacher
from culling.cloud.teacher.bundled import Bundled
from support.cloud import CloudState
from support.detectors import picture, small_student


def test_labels_are_those_of_the_teacher_and_their_time_is_noted(tmp_path: Path) -> None:
    cloud, teacher = CloudState(tmp_path), Bundled(small_student(), short_side=96)
    rates, ticks = Rates(cloud.index), iter([5.0, 8.0, 9.0])
    frames = [picture(96, 128), picture(96, 160)]
    timed = TimedTeacher(teacher, rates, lambda: next(ticks))
    assert [len(found) for found in timed.label(frames)] == [len(found) for found in teacher.label(frames)]
    rate = rates.read("label")
    assert rate.seconds == 3.0
    costs = {size: teacher.gflops(*size) for size in ((96, 128), (96, 160))}
    assert rate.gflops == pytest.approx(sum(cost for cost in costs.values() if cost is not None))
    assert rate.each == pytest.approx(costs)
    assert timed.label([]) == []
    assert rates.read("label") == rate, "nothing was labelled"
    cloud.close()


def test_a_teacher_that_cannot_be_counted_has_no_price(tmp_path: Path) -> None:
    cloud, teacher = CloudState(tmp_path), Bundled(small_student(), short_side=96)
    teacher.gflops = lambda height, width: None  # type: ignore[method-assign]
    TimedTeacher(teacher, Rates(cloud.index)).label([picture(96, 128)])
    assert not Rates(cloud.index).read("label").each
    cloud.close()
