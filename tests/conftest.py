"""What every test starts from: no settings from outside, SIGINT as in a terminal, and global hooks as they were."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

if TYPE_CHECKING:
    from support.postgres import Postgres
    from support.s3 import S3

hypothesis.settings.register_profile("culling", deadline=None, derandomize=True)
hypothesis.settings.load_profile("culling")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what runs in its background so; the processes that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole systems first: they wait most of their time, and would be waited for if they began last."""
    items.sort(key=lambda item: not {"faults", "system"}.intersection(item.path.parts))


def pytest_collection_finish() -> None:
    gc.freeze()  # six thousand tests and what they import stay: no collection has to walk through them


def pytest_sessionfinish() -> None:
    if (browser := sys.modules.get("support.browser")) is not None:
        browser.quit_all()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("CULLING_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _global_hooks_restored() -> Iterator[None]:
    """`logs.setup` and a service are meant for a process; a test that calls one must not change the next test's."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    structlog.reset_defaults()
    root.handlers[:], (sys.excepthook, threading.excepthook) = handlers, hooks
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the whole run."""
    from support.postgres import Postgres, binaries

    if (programs := binaries()) is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql`")
    server = Postgres(programs)
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server for the whole run."""
    from support.s3 import S3

    server = S3(tmp_path_factory.mktemp("s3"))
    yield server
    server.close()


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket; keys and endpoint are in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.make(f"bucket-{uuid.uuid4().hex}")
