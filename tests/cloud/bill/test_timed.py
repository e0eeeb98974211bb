from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.bill.rates import Rates
from culling.cloud.bill.timed import TimedTeacher
from culling.cloud.teacher.bundled import Bundled
from culling.cloud.teacher.classes import Translated
from culling.cloud.teacher.ensemble import Ensemble, with_views
from culling.cloud.weights.classes import CLASSES
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


def test_a_label_of_an_ensemble_has_the_price_of_all_its_members_in_all_their_views(tmp_path: Path) -> None:
    cloud, small = CloudState(tmp_path), Bundled(small_student(), short_side=96)
    members = small, with_views(small, ("whole", "flip"))
    known = [Translated(one, range(len(CLASSES)), CLASSES) for one in members]
    rates, each = Rates(cloud.index), small.gflops(96, 128)
    assert each is not None
    TimedTeacher(Ensemble(known, CLASSES), rates).label([picture(96, 128)] * 2)
    rate = rates.read("label")
    assert rate.each == pytest.approx({(96, 128): 3 * each}, rel=0.02)
    assert rate.gflops == pytest.approx(6 * each, rel=0.02)
    cloud.close()


def test_a_teacher_that_cannot_be_counted_has_no_price(tmp_path: Path) -> None:
    cloud, teacher = CloudState(tmp_path), Bundled(small_student(), short_side=96)
    rates = Rates(cloud.index)
    rates.note("label", 80.0, 1.0, {(96, 128): 80.0, (720, 1280): 400.0})  # by the teacher before it
    teacher.gflops = lambda height, width: None  # type: ignore[method-assign]
    TimedTeacher(teacher, rates).label([picture(96, 128)])
    assert not rates.read("label").each
    cloud.close()


def test_a_teacher_that_fails_to_be_counted_still_labels(tmp_path: Path) -> None:
    class Uncounted(Bundled):
        def gflops(self, height: int, width: int) -> float | None:
            raise NotImplementedError(f"{height}x{width}")

    cloud = CloudState(tmp_path)
    timed = TimedTeacher(Uncounted(small_student(), short_side=96), Rates(cloud.index))
    for _ in range(2):
        assert len(timed.label([picture(96, 128)])) == 1
    cloud.close()
