from __future__ import annotations

import math

import pytest

from culling.cloud.bill.cost import PassCost, StudentCost
from culling.cloud.bill.work import WorkMeter

COST = StudentCost(look=PassCost(1.0, 0.01), learn=PassCost(2.0, 0.03))


OTHER = StudentCost(look=PassCost(5.0, 0.1), learn=PassCost(0.0, 0.2))


def test_a_stage_costs_all_its_passes_at_their_sizes_and_the_price_of_their_student() -> None:
    work = WorkMeter()
    work.look(COST, (10, 10))
    work.look(COST, (10, 20), 3)
    work.learn(COST, (10, 10), 2)
    work.look(OTHER, (10, 10), 2)
    work.learn(OTHER, (10, 10), 1)
    assert work.take() == pytest.approx((1 + 1) + 3 * (1 + 2) + 2 * (2 + 3) + 2 * (5 + 10) + 20)


def test_the_next_stage_begins_with_nothing() -> None:
    work = WorkMeter()
    work.look(COST, (10, 10))
    work.take()
    assert work.take() == 0.0


def test_a_student_without_a_price_leaves_only_a_stage_in_which_it_computes_without_one() -> None:
    work = WorkMeter()
    work.look(None, (10, 10), 0)
    assert work.take() == 0.0
    work.look(COST, (10, 10))
    work.look(None, (10, 10))
    assert math.isnan(work.take())
    work.look(COST, (10, 10))
    assert work.take() == 2.0
