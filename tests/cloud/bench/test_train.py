from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_training_is_held_against_bare_forward_and_backward(bench: Bench) -> None:
    told = bench("train", "--video", "clip.mp4", "--model", "small.safetensors", "--steps", "2", "--batch", "1")
    assert told["ours"]["unit"] == "images/s"
