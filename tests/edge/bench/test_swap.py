from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_swaps_are_counted_and_none_is_lost(bench: Bench) -> None:
    told = bench("swap", "--swaps", "1")
    assert {one["name"] for one in told["comparisons"]} == {"p99 latency", "memory"}
    lost = {one["what"]: one["median"] for one in told["stated"]}
    assert lost["swaps that did not go live"] == 0
