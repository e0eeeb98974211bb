from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.bill.rates import Rates
from support.cloud import CloudState


@pytest.fixture
def rates(tmp_path: Path) -> Iterator[Rates]:
    cloud = CloudState(tmp_path)
    yield Rates(cloud.index)
    cloud.close()


def test_work_that_was_never_done_has_no_rate(rates: Rates) -> None:
    assert math.isnan(rates.read("label").seconds_per_gflop)
    assert rates.read("label").each == {}


def test_a_rate_is_that_of_all_work_of_its_kind(rates: Rates) -> None:
    rates.note("label", 100.0, 2.0, {(3, 4): 2.0})
    rates.note("train", 10.0, 10.0)
    assert rates.read("label").seconds_per_gflop == pytest.approx(0.02)
    assert rates.read("label").each == {(3, 4): 2.0}
    assert (rates.read("train").seconds_per_gflop, rates.read("train").each) == (1.0, {})


def test_a_faster_machine_is_known_by_its_rate_before_long(rates: Rates) -> None:
    rates.note("train", 100.0, 100.0)
    for _ in range(40):
        rates.note("train", 100.0, 10.0)
    assert rates.read("train").seconds_per_gflop == pytest.approx(0.1, rel=0.02)


def test_another_teacher_takes_the_place_of_the_one_before(rates: Rates) -> None:
    rates.note("label", 1.0, 1.0, {(3, 4): 1.0, (6, 8): 4.0})
    rates.note("label", 1.0, 1.0, {(3, 4): 5.0})
    assert rates.read("label").each == {(3, 4): 5.0, (6, 8): 4.0}
