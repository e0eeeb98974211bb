from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_memory_is_stated_by_camera(bench: Bench) -> None:
    told = bench("memory", "edge", "--cameras", "2", "--frames", "2", "--fps", "50")
    assert [one["what"] for one in told["stated"]] == ["one camera", "each further camera"]
    assert told["stated"][0]["median"] > 10
