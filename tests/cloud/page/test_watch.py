from __future__ import annotations

import io
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
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.text import Text

from culling.cloud.page.board import Told
from culling.cloud.page.dashboard import Dashboard
from culling.cloud.page.watch import COLUMNS, GIVEN_UP, Fleet, clean, screen, spark
from culling.common.clock import SystemClock
from culling.common.metrics import Metrics
from support.cloud import CAMERA, CloudState, camera_state
from support.site import free_port
from support.waiting import wait_until


class Served:
    """A real page over one camera; what its edge said stands in `told`."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder, page={"port": free_port()})
        self.cloud.enroll()
        self.told: dict[str, Told] = {}
        self.start()

    def start(self) -> None:
        self.page = Dashboard(
            self.cloud.settings,
            self.cloud.index,
            self.cloud.frames,
            lambda: self.told,
            SystemClock(),
            Metrics(CollectorRegistry(), "cloud"),
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
    process = run("--url", served.page.url, "--json")
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
    process = run("--url", served.page.url)
    assert process.stdout is not None
    assert f"{CAMERA}  " in process.stdout.readline()
    served.tell(state="connecting")
    line = process.stdout.readline()
    while "no picture" not in line:
        line = process.stdout.readline()
    assert "%" not in line
    process.kill()
    process.communicate()


def test_lines_say_that_a_student_does_not_keep_up(served: Served) -> None:
    process = run("--url", served.page.url)
    assert process.stdout is not None
    assert f"{CAMERA}  " in process.stdout.readline()
    served.told = {CAMERA: (camera_state(seen=1100, inferred=91, dropped={"newer": 999}), time.time() + 1000)}
    while "keeping up" not in (line := process.stdout.readline()):
        assert CAMERA in line  # what was said before
    assert "too slow" in line
    assert "keeping up: 0.001 of 1 frames/s" in line
    process.kill()
    process.communicate()


def test_once_shows_what_is_now_and_ends(served: Served) -> None:
    wait_until(lambda: b'"state":"live"' in served_now(served))
    process = run(CAMERA, "--url", served.page.url, "--once")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert CAMERA in out
    assert "1 of 1 camera fine" in out
    assert "last hour" in out


def test_a_camera_that_is_not_there_is_an_error(served: Served) -> None:
    process = run("nowhere", "--url", served.page.url, "--once")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "there is no camera nowhere" in err


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_console_that_knows_little_shows_it_all_the_same(served: Served, encoding: str) -> None:
    wait_until(lambda: b'"state":"live"' in served_now(served))
    for arguments in ([CAMERA, "--once"], ["--once", "--json"]):
        process = run(*arguments, "--url", served.page.url, env={**os.environ, "PYTHONIOENCODING": encoding})
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err, CAMERA in out) == (0, "", True)


def served_now(served: Served) -> bytes:
    from support.http import fetch

    return fetch(f"{served.page.url}/api/fleet").body


def test_in_a_terminal_a_table_keeps_itself_up_to_date_and_survives_a_restart(served: Served) -> None:
    ours, theirs = pty.openpty()
    process = run(
        "--url", served.page.url,
        stdout=theirs, stdin=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(theirs)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 65536).decode(errors="replace")
        return text in shown

    wait_until(lambda: shows(CAMERA))
    served.page.close()
    wait_until(lambda: shows("connection lost"))
    served.start()
    served.tell(model_id="gate-77", seen=900)
    wait_until(lambda: shows("gate-77"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(ours)
    process.communicate()


def fleet(cameras: int) -> Fleet:
    """Return cameras that are live, but for the last one."""
    numbers = {"rate": 0.011, "model": "camera-000-12", "scale": 0.73, "spool_frames": 11, "lag_s": 1140.0}
    rows = {
        name: {"camera": name, "state": "live", "heard": time.time() - 86_400, **numbers}
        for name in (f"camera-{number:03d}" for number in range(cameras))
    }
    rows[f"camera-{cameras - 1:03d}"]["state"] = "down"
    return Fleet(rows)


def shown(watched: Fleet, charts: list[Any], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO())
    lines = console.render_lines(screen(watched, charts, console), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


SLOW = {"taken": 0.5, "came": 10.0, "enough": False, "told": "0.5 of 10 frames/s", "hint": "set max_fps"}


def test_a_student_that_is_too_slow_is_told_with_what_to_do_and_a_whole_fleet_of_them_in_few_lines() -> None:
    watched = fleet(3)
    watched.rows["camera-001"]["keeping_up"] = SLOW
    lines = shown(watched, [], 160, 24)
    assert lines[0] == "2 of 3 cameras fine; camera-002 down"
    assert lines[1] == "camera-001: keeping up: 0.5 of 10 frames/s; set max_fps"
    assert [line.count("0.5 of 10 frames/s") for line in lines if line.startswith("camera-001 ")] == [1]

    for row in (watched := fleet(200)).rows.values():
        row["keeping_up"] = SLOW
    lines = shown(watched, [], 160, 24)
    assert (lines[4], len(lines)) == ("and 197 more do not keep up", 23)


def test_measured_accuracy_is_told_with_its_interval() -> None:
    watched = fleet(2)
    watched.rows["camera-000"]["accuracy"] = {"ap50": {"value": 0.71, "low": 0.65, "high": 0.76}}
    assert sum("0.71 (0.65-0.76)" in line for line in shown(watched, [], 180, 24)) == 1


def test_charts_stay_in_sight_however_many_cameras_there_are() -> None:
    lines = shown(fleet(200), [Text("line\n" * 19 + "chart")], 120, 40)
    assert len(lines) < 40
    assert "chart" in lines
    assert any(line.startswith("camera-199  down") for line in lines)  # what is wrong comes first
    rows = sum(line.startswith("camera-") for line in lines)
    assert (rows > 10, lines[-1]) == (True, f"and {200 - rows} more")


def test_a_fleet_that_fits_is_shown_whole() -> None:
    lines = shown(fleet(30), [], 120, 40)
    assert sum(line.startswith("camera-") for line in lines) == 30
    assert "more" not in lines[-1]


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (160, set()),
        (100, {"accuracy", "keeping up"}),
        (80, {"accuracy", "keeping up", "over the day", "lag"}),
        (50, set(GIVEN_UP)),
    ],
)
def test_names_and_times_stay_whole_where_the_terminal_is_narrow(width: int, gone: set[str]) -> None:
    lines = shown(fleet(3), [], width, 24)[1:]
    assert [column for column in COLUMNS if column not in lines[0]] == [one for one in COLUMNS if one in gone]
    assert "…" not in "".join(lines)
    assert [line.split()[0] for line in lines[1:]] == ["camera-002", "camera-000", "camera-001"]
    assert all(line.endswith("24 h ago") for line in lines[1:])
    assert all(len(line) <= width for line in lines)


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
