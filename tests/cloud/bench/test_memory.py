from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_memory_is_stated_by_a_hundred_edges(bench: Bench) -> None:
    told = bench("memory", "cloud", "--edges", "2", "--frames", "2", "--size", "2000")
    assert [one["what"] for one in told["stated"]] == ["no edge", "2 edges", "each hundred further edges"]
