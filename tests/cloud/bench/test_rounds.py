from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Bench = Callable[..., dict[str, Any]]


@pytest.mark.timeout(300)
def test_rounds_at_once_are_held_against_one_after_the_other(bench: Bench) -> None:
    told = bench("rounds", "--video", "clip.mp4", "--cameras", "1", "--steps", "2", "--family", "yolox")
    (found,) = told["comparisons"]
    assert found["ours"]["unit"] == "rounds/hour"
    assert found["ours"]["values"][0] > 0
    assert found["reference"]["values"][0] > 0
