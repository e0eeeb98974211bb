from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from culling.common.errors import StorageError
from culling.common.process.lock import holder, only_one


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "agent.lock"


def test_the_second_is_told_who_the_first_is(lock: Path) -> None:
    with only_one(lock, "agent"), pytest.raises(StorageError) as raised, only_one(lock, "agent"):
        pass
    assert str(raised.value) == f"another agent runs on {lock.parent} (process {os.getpid()}): stop it first"


def test_it_is_held_until_it_is_done(lock: Path) -> None:
    assert holder(lock) is None
    with only_one(lock, "agent"):
        assert holder(lock) == os.getpid()
    assert holder(lock) is None
    with only_one(lock, "agent"):
        assert holder(lock) == os.getpid()


def test_it_ends_with_a_process_that_is_killed(lock: Path) -> None:
    code = (
        "import sys, pathlib; from culling.common.process.lock import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1]), 'agent'): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert holder(lock) == process.pid
    process.kill()
    process.communicate()

    assert holder(lock) is None
    with only_one(lock, "agent"):
        pass


def test_whoever_looks_is_no_holder_and_keeps_nobody_out(lock: Path) -> None:
    with only_one(lock, "agent"):
        pass
    over = threading.Event()
    found: list[int | None] = []

    def look() -> None:
        while not over.is_set():
            found.append(holder(lock))
            over.wait(0.001)  # as those who look do: one after the other without a pause would be a holder

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            with only_one(lock, "agent"):
                pass
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(found) <= {None, os.getpid(), 0}


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot lock"), only_one(tmp_path / "none" / "lock", "agent"):
        pass
    assert holder(tmp_path / "none" / "lock") is None
