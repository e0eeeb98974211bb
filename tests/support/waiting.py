"""Waits for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG_S = 60.0
"""A limit that no machine, however busy, should need: it only ends a test that would wait forever."""


def wait_until(condition: Callable[[], bool], within_s: float = LONG_S, rest_s: float = 0.01) -> None:
    """Return as soon as `condition` holds; fail when it does not within `within_s` seconds.

    It looks every `rest_s` seconds: what is waited for may need the core more than the looking does.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(rest_s)
