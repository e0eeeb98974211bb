from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from culling.common.process.child import DIES_FIRST

CODE = """
from pathlib import Path
from culling.common.process.child import die_first, stop_when_told
die_first()
stopping = stop_when_told(True)
print(Path("/proc/self/oom_score_adj").read_text().strip(), flush=True)
stopping.wait()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", CODE], stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()


def told(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_child_dies_before_its_service_where_memory_runs_out(child: subprocess.Popen[str]) -> None:
    assert int(told(child)) >= DIES_FIRST


def test_a_child_ends_when_whoever_started_it_is_gone(child: subprocess.Popen[str]) -> None:
    told(child)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_when_it_is_told_to(child: subprocess.Popen[str], number: signal.Signals) -> None:
    told(child)
    child.send_signal(number)
    assert child.wait(20) == 0
