from __future__ import annotations

import json
import math

import pytest

from culling.cloud.bill.cost import EDGE, LABELS, NOTHING, UNKNOWN, Bill, Cost
from culling.cloud.bill.statement import Statement, flops

FULL = Cost(50.0, 9000.0)


def statement(parts: dict[str, Cost], frames: int = 100, full: Cost = FULL) -> Statement:
    return Statement(0.0, 60.0, Bill(parts), {EDGE: 90, LABELS: 4}, frames, full)


KNOWN = {EDGE: Cost(math.nan, 80.0), LABELS: Cost(2.0, 6.0), "train": Cost(3.0, 4.0)}


def test_a_statement_has_parts_sums_and_both_ratios() -> None:
    row = statement(KNOWN).row()
    assert row["parts"][EDGE] == {"passes": 90, "gflops": 80.0, "seconds": None}
    assert row["parts"]["train"] == {"passes": None, "gflops": 4.0, "seconds": 3.0}
    assert (row["gflops"], row["seconds"]) == (90.0, 5.0), "no edge tells how long its passes took"
    assert row["full"] == {"frames": 100, "gflops": 9000.0, "seconds": 50.0}
    assert (row["ratio"], row["ratio_incremental"]) == (100.0, 900.0)
    json.dumps(row, allow_nan=False)


def test_it_reads_in_one_line() -> None:
    assert statement(KNOWN).told() == (
        "90 GFLOP: edge 80 GFLOP, cloud 10 GFLOP; 1/100 of full training, 1/900 without the edge's passes"
    )


def test_there_is_no_ratio_without_the_whole_bill() -> None:
    told = statement(KNOWN | {EDGE: UNKNOWN})
    assert told.row()["ratio"] is None
    assert told.row()["gflops"] is None
    assert told.told() == "not known: edge not known, cloud 10 GFLOP; 1/900 of full training without the edge's passes"
    assert statement(KNOWN, full=UNKNOWN).row()["ratio_incremental"] is None


def test_nothing_seen_has_no_ratio_and_nothing_known_says_when_it_will() -> None:
    assert statement({}, frames=0, full=NOTHING).told() == "0 GFLOP: edge 0 GFLOP, cloud 0 GFLOP"
    assert "the next round" in statement({EDGE: UNKNOWN, LABELS: UNKNOWN}, full=UNKNOWN).told()


@pytest.mark.parametrize(
    ("gflops", "told"),
    [
        (0.0, "0 GFLOP"),
        (0.25, "0.25 GFLOP"),
        (999.0, "999 GFLOP"),
        (3140.0, "3.14 TFLOP"),
        (2.5e6, "2.5 PFLOP"),
        (7e13, "70,000 EFLOP"),
        (math.nan, "not known"),
    ],
)
def test_numbers_have_a_readable_unit(gflops: float, told: str) -> None:
    assert flops(gflops) == told
