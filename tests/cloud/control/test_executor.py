from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.control.executor import End, Executor
from culling.cloud.settings import to_toml
from support.clock import FakeClock
from support.cloud import CloudState
from support.waiting import wait_until

TELLS = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/told"
exec sleep 60
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says with which arguments processes were started; each of them then sleeps."""
    script = tmp_path / "python"
    script.write_text(TELLS)
    script.chmod(0o700)
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", str(script))
    return tmp_path / "told"


def make(tmp_path: Path, **executor: object) -> Executor:
    cloud = CloudState(tmp_path, FakeClock(), executor=executor, round={"threads": 4})
    path = cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings))
    cloud.close()
    return Executor(path, cloud.settings, cloud.clock)


def started(told: Path, count: int = 1) -> Iterator[str]:
    wait_until(lambda: told.exists() and len(told.read_text().splitlines()) == count)
    return (line.split("--watch-stdin ")[1] for line in sorted(told.read_text().splitlines()))


@pytest.mark.parametrize(
    ("executor", "module", "arguments"),
    [
        ({}, "culling.cloud.round", "--lease a1 7"),
        ({"parallel": 2}, "culling.cloud.round", "--lease a1 --threads 2 --gpu-share 0.500 7"),
        ({"parallel": 9}, "culling.cloud.round", "--lease a1 --threads 1 --gpu-share 0.111 7"),
        ({"kind": "ray", "parallel": 2}, "culling.cloud.control.ray", "--lease a1 7"),
    ],
)
def test_a_process_is_told_its_lease_and_its_share_of_the_machine(
    tmp_path: Path, told: Path, executor: dict[str, object], module: str, arguments: str
) -> None:
    made = make(tmp_path, **executor)
    made.start(7, "a1")
    assert list(started(told)) == [arguments]
    assert told.read_text().startswith(f"-m {module} --config ")
    assert made.stop() == [(7, "a1")]


def test_of_several_each_is_stopped_and_told_of_by_itself(tmp_path: Path, told: Path) -> None:
    made = make(tmp_path, parallel=3)
    for number in (1, 2, 3):
        made.start(number, f"lease-{number}")
    list(started(told, 3))
    assert made.running == {1, 2, 3}
    assert not list(made.poll())
    made.cancel(2)
    made.cancel(9)  # of which there is none
    ends: list[End] = []
    wait_until(lambda: bool(ends.extend(made.poll()) or ends))
    assert ends == [End(2, "lease-2", -signal.SIGTERM, False, "before its first stage")]
    assert made.running == {1, 3}
    assert made.stop() == [(1, "lease-1"), (3, "lease-3")]
    assert not made.running


def test_one_that_hangs_is_killed_and_the_others_go_on(tmp_path: Path, told: Path) -> None:
    made = make(tmp_path, parallel=2)
    clock = made._clock
    assert isinstance(clock, FakeClock)
    made.start(1, "a")
    clock.advance(899)
    made.start(2, "b")
    clock.advance(1)
    assert made.kill_stalled() == [(1, "before its first stage")]
    assert made.kill_stalled() == []
    ends: list[End] = []
    wait_until(lambda: bool(ends.extend(made.poll()) or ends))
    assert ends == [End(1, "a", -signal.SIGKILL, True, "before its first stage")]
    assert made.stop() == [(2, "b")]
