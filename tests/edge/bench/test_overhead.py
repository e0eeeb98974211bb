from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_the_overhead_says_how_many_frames_went_to_the_spool(bench: Bench) -> None:
    told = bench("overhead", "--frames", "16")
    assert told["ours"]["unit"] == told["reference"]["unit"] == "ms a frame"
    assert 0 < told["stated"][0]["median"] <= 1
