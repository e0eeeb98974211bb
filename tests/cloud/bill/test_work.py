from __future__ import annotations

import math

from culling.cloud.bill.cost import PassCost, StudentCost
from culling.cloud.bill.work import Work

COST = StudentCost(look=PassCost(1.0, 0.01), learn=PassCost(2.0, 0.03))


def test_a_stage_costs_all_its_passes_at_their_sizes() -> None:
    work = Work()
    work.look((10, 10))
    work.look((10, 20), 3)
    work.learn((10, 10), 2)
    assert work.take(COST) == (1 + 1) + 3 * (1 + 2) + 2 * (2 + 3)


def test_the_next_stage_begins_with_nothing() -> None:
    work = Work()
    work.look((10, 10))
    work.take(COST)
    assert work.take(COST) == 0.0


def test_without_a_price_only_nothing_has_one() -> None:
    work = Work()
    assert work.take(None) == 0.0
    work.look((10, 10))
    assert math.isnan(work.take(None))
