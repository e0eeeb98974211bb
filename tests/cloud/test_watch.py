from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.dashboard import Dashboard
from culling.cloud.events import Told
from culling.cloud.watch import clean, spark
from culling.common.clock import SystemClock
from support.cloud import CAMERA, CloudState, camera_state, wait_until
from support.site import free_port


class Served:
    """A real page over one camera; what its edge said stands in `told`."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder, page={"port": free_port()})
        self.cloud.enrol()
        self.told: dict[str, Told] = {}
        self.start()

    def start(self) -> None:
        self.page = Dashboard(
            self.cloud.settings, self.cloud.index, self.cloud.frames, lambda: self.told, SystemClock()
        )

    def tell(self, **changes: Any) -> None:
        self.told = {CAMERA: (camera_state(**changes), time.time())}

    def close(self) -> None:
        self.page.close()
        self.cloud.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    found.tell(seen=100)
    yield found
    found.close()


def run(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "culling.common.cli", "watch", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen(command, text=True, **streams)


def test_json_is_a_line_for_each_row_that_comes(served: Served) -> None:
    process = run(served.page.url, "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["camera"] == CAMERA
    served.tell(seen=777)
    while (row := json.loads(process.stdout.readline()))["seen"] != 777:
        assert row["camera"] == CAMERA
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.communicate()


def test_lines_say_what_changed_where_there_is_no_terminal(served: Served) -> None:
    process = run(served.page.url)
    assert process.stdout is not None
    assert f"{CAMERA}  " in process.stdout.readline()
    served.tell(state="connecting")
    line = process.stdout.readline()
    while "down" not in line:
        line = process.stdout.readline()
    assert "%" not in line
    process.kill()
    process.communicate()


def test_once_shows_what_is_now_and_ends(served: Served) -> None:
    wait_until(lambda: b'"state":"live"' in served_now(served))
    process = run(served.page.url, "--once", "--camera", CAMERA)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert CAMERA in out
    assert "live" in out
    assert "last hour" in out


def served_now(served: Served) -> bytes:
    from support.http import fetch

    return fetch(f"{served.page.url}/api/fleet").body


def test_in_a_terminal_a_table_keeps_itself_up_to_date_and_survives_a_restart(served: Served) -> None:
    ours, theirs = pty.openpty()
    process = run(served.page.url, stdout=theirs, stdin=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"})
    os.close(theirs)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 65536).decode(errors="replace")
        return text in shown

    wait_until(lambda: shows(CAMERA), 60)
    served.page.close()
    wait_until(lambda: shows("connection lost"), 60)
    served.start()
    served.tell(model_id="gate-77", seen=900)
    wait_until(lambda: shows("gate-77"), 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(ours)
    process.communicate()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "nonsense"])
def test_a_page_that_is_not_there_is_one_line(url: str) -> None:
    process = run(url)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert len(err.splitlines()) == 1


def test_a_spark_leaves_a_gap_where_nothing_was_said() -> None:
    def slot(at: int, hard: int) -> dict[str, int]:
        return {"t": 1800 * at, "seen": 100, "hard": hard, "audit": 0, "bootstrap": 0, "manual": 0}

    assert spark([slot(46, 0), slot(47, 8)], now=1800.0 * 47 + 5)[-3:] == " ▁█"


def test_no_name_steers_the_terminal() -> None:
    assert clean("gate\x1b[2J\n") == "gate?[2J?"
