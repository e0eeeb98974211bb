from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_the_teacher_is_held_against_its_bare_forward(bench: Bench) -> None:
    told = bench("teacher", "--video", "clip.mp4", "--model", "small.safetensors", "--frames", "2")
    assert told["target"] == {"sense": "at least", "value": 0.9}
