"""Waits for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG_S = 150.0
"""A limit that no machine, however busy, should need, twice what a service does once a minute: it only ends a test that
would wait forever."""


RARELY_S = 0.05
"""Between two looks at what takes seconds: it may need the core more than the looking does."""


def wait_until(condition: Callable[[], bool], within_s: float = LONG_S, rest_s: float = 0.01) -> None:
    """Return as soon as `condition` holds; fail when it does not within `within_s` seconds.

    It looks every `rest_s` seconds, and less often the longer it takes.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within_s, f"not within {within_s} s"
        time.sleep(max(rest_s, min(waited / 20, RARELY_S)))
