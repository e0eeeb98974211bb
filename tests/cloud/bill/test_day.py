from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.bill.cost import ANSWERS, EDGE, LABELS, PassCost, StudentCost
from culling.cloud.bill.day import Day, Models, ratio

FULL, SMALL = (10, 10), (5, 10)
MODELS = Models(
    StudentCost(look=PassCost(0.0, 0.01), learn=PassCost(0.0, 0.03)),  # 1 and 3 GFLOPs at full size, half of it smaller
    label=10.0,
    trained=[FULL, SMALL],
    compared=[FULL, SMALL],
    checked=[FULL, FULL],
)
DAY = Day(
    frames=1000, rounds=1, passes=40, kept=6, labelled=24, per_day=60, answers=0, held_out=5, scored=30, replayed=2,
    aside=2, look_every=10, batch=4,
)  # fmt: skip


def test_the_papers_bill_of_a_day_is_that_worked_out_by_hand() -> None:
    culled, full = DAY.paper(MODELS)
    assert full.total.gflops == pytest.approx(1000 * 10 + 1000 * 40 * 3)
    # the edge 1000, 24 labels 240, optResolution 6 x 1.5, training 6 x 40 x 3
    assert culled.total.gflops == pytest.approx(1000 + 240 + 9 + 720)
    assert ratio(full, culled.incremental) == pytest.approx(130_000 / 969)


def test_the_whole_bill_of_a_day_is_that_worked_out_by_hand() -> None:
    parts = {part: cost.gflops for part, cost in DAY.whole(MODELS).parts.items()}
    assert parts == pytest.approx(
        {
            EDGE: 1000.0,
            LABELS: 600.0,  # as many as may be
            "score": 30.0,
            "resolution": 8 * 1.5,
            # 6 of 8 frames 40 times at 3 or 1.5; of 60 steps every tenth and the start is followed by 2 looks
            "train": 6 * 40 * 2.25 + 7 * 2,
            "export": 2.0,
            "gate": 3 * 5.0,
        }
    )


def test_more_rounds_want_no_more_labels_and_neither_labels_nor_answers_go_beyond_the_frames() -> None:
    assert replace(DAY, rounds=4).whole(MODELS).parts[LABELS].gflops == pytest.approx(600)
    assert replace(DAY, answers=20).whole(MODELS).parts[ANSWERS].gflops == pytest.approx(20 * 10)
    assert replace(DAY, answers=5000).whole(MODELS).parts[ANSWERS].gflops == pytest.approx(1000 * 10)
    assert replace(DAY, per_day=5000).whole(MODELS).parts[LABELS].gflops == pytest.approx(1000 * 10)


@given(st.integers(1, 20), st.integers(1, 20))
def test_more_rounds_cost_more_and_the_whole_bill_exceeds_the_papers(rounds: int, more: int) -> None:
    few, many = (replace(DAY, rounds=count).whole(MODELS) for count in (rounds, rounds + more))
    assert few.total.gflops < many.total.gflops
    assert many.parts[EDGE] == few.parts[EDGE]
