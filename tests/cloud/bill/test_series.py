from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.bill.cost import EDGE, PARTS
from culling.cloud.bill.series import CostSeries
from culling.common.metrics import KNOWN, Metrics
from support.billed import Billed
from support.cloud import CAMERA


@pytest.fixture
def billed(tmp_path: Path) -> Iterator[Billed]:
    one = Billed(tmp_path)
    yield one
    one.cloud.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), "cloud")


def test_minutes_are_counted_once_and_only_when_all_of_them_is_written(billed: Billed, metrics: Metrics) -> None:
    series = CostSeries(billed.cloud.index, billed.cloud.settings, metrics, billed.clock)
    billed.label(1)
    billed.price_labels()
    billed.look(10)
    series.advance()
    assert metrics.total("cost_gflops", camera=CAMERA) == 0, "what ended only now may still be written"
    billed.look(0)
    for _ in range(3):
        series.advance()
    told = billed.statement()
    assert metrics.total("cost_gflops", camera=CAMERA, part=EDGE) == pytest.approx(told.bill.parts[EDGE].gflops)
    assert metrics.total("cost_gflops", camera=CAMERA) == pytest.approx(told.bill.total.gflops)
    assert metrics.total("cost_seconds", camera=CAMERA) == pytest.approx(told.bill.incremental.seconds)
    assert metrics.total("full_training_gflops", camera=CAMERA) == pytest.approx(told.full.gflops)


def test_full_training_is_not_counted_beside_a_bill_that_lacks_something(billed: Billed, metrics: Metrics) -> None:
    series = CostSeries(billed.cloud.index, billed.cloud.settings, metrics, billed.clock)
    billed.label(1)
    billed.look(10)  # no teacher's price is known
    billed.look(0)
    series.advance()
    assert metrics.total("cost_gflops", camera=CAMERA, part=EDGE) > 0
    assert metrics.total("full_training_gflops", camera=CAMERA) == 0


def test_every_part_is_a_series_from_the_start() -> None:
    assert KNOWN["cost_gflops"] == PARTS
    assert KNOWN["cost_seconds"] == tuple(part for part in PARTS if part != EDGE)
