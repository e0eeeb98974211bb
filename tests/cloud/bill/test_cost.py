from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.bill.cost import (
    EDGE,
    LABELS,
    PARTS,
    UNKNOWN,
    Bill,
    Cost,
    PassCost,
    PerImage,
    culled_bill,
    full_bill,
)

EACH = PerImage(student=Cost(0.01, 10.0), teacher=Cost(0.5, 100.0), training=Cost(0.1, 30.0))

counts = st.integers(0, 10**6)
costs = st.builds(Cost, st.integers(0, 10**9).map(float), st.integers(0, 10**9).map(float))
bills = st.dictionaries(st.sampled_from(PARTS), costs).map(Bill)


def test_full_training_pays_the_teacher_and_every_epoch_for_every_frame() -> None:
    bill = full_bill(1000, 20, EACH)
    assert bill.total == Cost(1000 * 0.5 + 1000 * 20 * 0.1, 1000 * 100.0 + 1000 * 20 * 30.0)
    assert EDGE not in bill.parts


def test_the_ratios_of_a_culled_set_are_those_worked_out_by_hand() -> None:
    full = full_bill(1000, 20, EACH)  # 2500 s, 700 TFLOPs
    culled = culled_bill(1000, 40, 10, 20, EACH, resolution=Cost(5.0, 1000.0))
    # student 10 s, teacher 20 s, optResolution 5 s, training 20 s
    assert full.total.over(culled.total).seconds == pytest.approx(2500 / 55)
    assert full.total.over(culled.incremental).seconds == pytest.approx(2500 / 45)
    # student 10,000, teacher 4,000, optResolution 1,000, training 6,000 GFLOPs
    assert full.total.over(culled.total).gflops == pytest.approx(700_000 / 21_000)
    assert full.total.over(culled.incremental).gflops == pytest.approx(700_000 / 11_000)


def test_the_papers_own_hours_give_the_papers_own_ratio() -> None:
    full = Bill({LABELS: Cost(8.0), "train": Cost(96.0)})
    culled = Bill({EDGE: Cost(1.54), LABELS: Cost(0.33), "train": Cost(0.28)})
    assert full.total.over(culled.total).seconds == pytest.approx(48, abs=1)
    assert full.total.over(culled.incremental).seconds == pytest.approx(170, abs=1)


def test_no_more_frames_are_labelled_than_there_are() -> None:
    assert culled_bill(30, 40, 10, 1, EACH, Cost()).parts[LABELS] == EACH.teacher * 30


def test_nothing_is_infinitely_cheaper() -> None:
    assert Cost(1.0, 1.0).over(Cost()) == Cost(math.inf, math.inf)


def test_a_pass_costs_what_is_fixed_and_what_its_pixels_cost() -> None:
    assert PassCost(fixed=2.0, per_pixel=0.5).gflops((3, 4)) == 2.0 + 0.5 * 12


def test_what_holds_something_unknown_is_unknown() -> None:
    bill = Bill({EDGE: UNKNOWN, "train": Cost(1.0, 2.0)})
    assert math.isnan(bill.total.gflops)
    assert math.isnan(Cost(1.0, 1.0).over(bill.total).gflops)
    assert bill.incremental == Cost(1.0, 2.0), "the edge's passes are no part of it"


@given(bills)
def test_the_parts_add_up_to_the_whole(bill: Bill) -> None:
    assert bill.total.gflops == sum(cost.gflops for cost in bill.parts.values())
    assert bill.total.seconds == sum(cost.seconds for cost in bill.parts.values())
    assert bill.total == bill.incremental + bill.parts.get(EDGE, Cost())


@given(bills, bills)
def test_two_bills_cost_together_what_they_cost_apart(one: Bill, other: Bill) -> None:
    assert (one + other).total == one.total + other.total
    assert (one + other).incremental == one.incremental + other.incremental


@given(bills, st.sampled_from(PARTS), costs, costs)
def test_whoever_spends_more_saves_less(bill: Bill, part: str, more: Cost, full: Cost) -> None:
    dearer = bill + Bill({part: more})
    before, after = full.over(bill.total).gflops, full.over(dearer.total).gflops
    assert after <= before or math.isinf(before)
    assert full.over(bill.incremental).gflops >= before or not bill.total.gflops, "edge passes only lower the ratio"


@given(counts, counts, counts, counts, st.integers(1, 100))
def test_culling_never_costs_more_where_more_is_left_out(
    frames: int, labelled: int, kept: int, more: int, passes: int
) -> None:
    few = culled_bill(frames, labelled, kept, passes, EACH, Cost())
    many = culled_bill(frames, labelled + more, kept + more, passes, EACH, Cost())
    assert few.total.gflops <= many.total.gflops
