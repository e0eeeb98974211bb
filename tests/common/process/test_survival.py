from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from culling.common.errors import StorageError
from culling.common.metrics import Metrics
from culling.common.process.survival import surviving


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def count(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("culling_items_failed_total", {"loop": "ingest"})


def test_an_unexpected_error_is_counted_named_and_costs_that_item_alone(
    registry: CollectorRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, done = Metrics(registry, "cloud"), []
    for item in (1, 0, 2):
        with surviving("ingest", metrics, item=item):
            done.append(1 / item)
    assert done == [1.0, 0.5]
    assert count(registry) == 1
    out = capsys.readouterr().out
    assert "item_failed" in out
    assert "ZeroDivisionError" in out


@pytest.mark.parametrize("error", [StorageError("full"), KeyboardInterrupt()])
def test_what_is_raised_on_purpose_passes(registry: CollectorRegistry, error: BaseException) -> None:
    with pytest.raises(type(error)), surviving("ingest", Metrics(registry, "cloud")):
        raise error
    assert not count(registry)
