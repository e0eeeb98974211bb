from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from culling.common.errors import ModelError
from culling.edge.model.vetting import Limits, NotVettedError, vet
from support import tiny
from support.waiting import wait_until

SIZES = [(64, 64), (128, 160)]


def stand_in(python: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a shell script run in place of the interpreter."""
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gate-1.onnx"


def test_a_sound_model_is_let_through(file: Path) -> None:
    file.write_bytes(tiny.student())

    vet(file, SIZES)


def test_what_is_wrong_is_told_as_the_check_told_it(file: Path) -> None:
    file.write_bytes(tiny.foreign())

    with pytest.raises(ModelError, match=r"^the model uses the foreign domain 'com\.microsoft'$"):
        vet(file, SIZES)


def test_a_model_that_fails_on_a_frame_is_refused(file: Path) -> None:
    file.write_bytes(tiny.failing())

    with pytest.raises(ModelError, match="failed on a batch"):
        vet(file, SIZES)


def test_a_model_that_never_ends_is_killed_after_its_share_of_cpu(file: Path) -> None:
    file.write_bytes(tiny.forever())

    with pytest.raises(ModelError, match="gate-1 crashed the process that vetted it"):
        vet(file, SIZES, Limits(cpu_s=1))


def test_a_model_that_never_ends_is_killed_after_a_while(file: Path) -> None:
    file.write_bytes(tiny.forever())

    with pytest.raises(ModelError, match=r"gate-1 did not answer a blank frame within 1\.5 s"):
        vet(file, SIZES, Limits(wall_s=1.5, idle_s=0.5))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_look_that_was_ended_from_outside_is_no_verdict(
    number: signal.Signals, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the kernel ends a process when memory is short, and as a stop of the unit does."""
    file.write_bytes(tiny.student())
    stand_in(tmp_path / "python", f"kill -{number.value} $$", monkeypatch)

    with pytest.raises(NotVettedError, match=f"ended from outside, by {number.name}"):
        vet(file, SIZES)


def test_a_model_that_crashes_its_process_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file.write_bytes(tiny.student())
    stand_in(tmp_path / "python", "kill -SEGV $$", monkeypatch)

    with pytest.raises(ModelError, match="gate-1 crashed the process that vetted it"):
        vet(file, SIZES)


def test_a_child_that_cannot_be_started_is_no_verdict(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file.write_bytes(tiny.student())
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))

    with pytest.raises(NotVettedError, match="cannot be vetted now"):
        vet(file, SIZES)


@contextmanager
def looking(file: Path) -> Iterator[int]:
    """Have a process of its own vet a model; gives its id, and kills it."""
    program = (
        f"from pathlib import Path; from culling.edge.model.vetting import vet; vet(Path({str(file)!r}), [(64, 64)])"
    )
    agent = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield agent.pid
    finally:
        agent.kill()
        agent.wait(10)


def test_the_child_dies_with_the_agent(file: Path) -> None:
    file.write_bytes(tiny.forever())

    with looking(file) as agent:
        wait_until(lambda: any(_is_confined(child) for child in _children(agent)))
        [child] = _children(agent)

    wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists() or _is_zombie(child))


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _is_confined(pid: int) -> bool:
    """Whether the child has come as far as to limit itself, which follows its tie to the agent."""
    return resource.prlimit(pid, resource.RLIMIT_FSIZE) == (0, 0)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_model_that_wants_all_the_memory_does_not_get_it(file: Path) -> None:
    file.write_bytes(tiny.hungry())

    with pytest.raises(ModelError):
        vet(file, SIZES)


def test_a_process_that_cannot_even_start_lets_nothing_through(file: Path) -> None:
    file.write_bytes(tiny.student())

    with pytest.raises(ModelError):
        vet(file, SIZES, Limits(memory=64 << 20))


def test_no_file_is_no_model(file: Path) -> None:
    with pytest.raises(ModelError):
        vet(file, SIZES)


def test_the_child_gets_no_settings(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its environment is written down by a stand-in for the interpreter."""
    seen = tmp_path / "seen"
    stand_in(tmp_path / "python", f"env > {seen}", monkeypatch)
    monkeypatch.setenv("CULLING_CLOUD__SECRET_KEY", "hush")

    vet(file, SIZES)

    assert "hush" not in seen.read_text()
    assert "OMP_NUM_THREADS=1" in seen.read_text()


def test_the_child_takes_only_the_time_that_nobody_wants(file: Path) -> None:
    file.write_bytes(tiny.forever())

    with looking(file) as agent:
        wait_until(lambda: any(os.sched_getscheduler(child) == os.SCHED_IDLE for child in _children(agent)))


def test_a_child_that_gets_no_time_is_given_some(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for the interpreter gets nowhere while it is to wait for idle time."""
    file.write_bytes(tiny.student())
    seen = tmp_path / "seen"
    stand_in(tmp_path / "python", f'echo "$6" >> {seen}; [ "$6" = nice ] || exec sleep 30', monkeypatch)

    vet(file, SIZES, Limits(idle_s=0.5))

    assert seen.read_text().split() == ["idle", "nice"]
