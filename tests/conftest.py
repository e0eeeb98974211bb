"""What every test starts from: no settings from outside, SIGINT as in a terminal, and global hooks as they were."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

hypothesis.settings.register_profile("culling", deadline=None, derandomize=True)
hypothesis.settings.load_profile("culling")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what runs in its background so; the processes that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("CULLING_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _global_hooks_restored() -> Iterator[None]:
    """`logs.setup` is meant for a process; a test that calls it must not change the next test's."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield
    structlog.reset_defaults()
    root.handlers[:], (sys.excepthook, threading.excepthook) = handlers, hooks
    root.setLevel(level)
