from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.control.labeller import LONGEST_S, LOOK_S, RETRY_S, LabellerProcess
from culling.cloud.labelling.queue import LEASE_S, MOST_TRIES, LabelQueue
from culling.cloud.labelling.state import FOLDER, worker_name
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.settings import to_toml
from culling.cloud.store.index import frames, leases
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.narrow import install
from support.rounds import QUICK, add
from support.waiting import wait_until


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    """A camera whose teacher is a narrow detector."""
    weights = str(shutil.copy(narrow / "student.safetensors", tmp_path / "teacher.safetensors"))
    sections = {**QUICK, "teacher": {**QUICK["teacher"], "file": weights}, "labelling": {"per_day": 100_000}}
    state = CloudState(tmp_path, FakeClock(), **sections)
    install(narrow, state.data_dir)
    state.enroll()
    yield state
    state.close()


def make(cloud: CloudState, settings: bytes | None = None) -> LabellerProcess:
    path = cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings) if settings is None else settings)
    queue = LabelQueue(cloud.index, cloud.frames, cloud.clock, 1_000_000, worker_name(cloud.data_dir))
    return LabellerProcess(path, queue, cloud.clock, 900.0)


def pass_time(cloud: CloudState, seconds: float) -> None:
    assert isinstance(cloud.clock, FakeClock)
    cloud.clock.advance(seconds)


def kill_in_mid_batch(labeller: LabellerProcess, cloud: CloudState, labels: int) -> None:
    """Kill the worker while it holds frames, once there are at least so many labels."""
    process = labeller._child._process
    assert process is not None

    def caught() -> bool:
        if leased(cloud) > 0 and len(labelled(cloud)) >= labels:
            os.kill(process.pid, signal.SIGSTOP)  # looked at while it stands: it may have just finished the batch
            if leased(cloud) > 0:
                return True
            os.kill(process.pid, signal.SIGCONT)
        return False

    wait_until(caught, 90)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not labeller.busy)


def labelled(cloud: CloudState) -> dict[str, float]:
    """Return when each frame was labelled that was."""
    with cloud.index.read() as connection:
        query = sa.select(frames.c.id, frames.c.labelled).where(frames.c.labels.is_not(None))
        return dict(connection.execute(query).all())


def leased(cloud: CloudState) -> int:
    with cloud.index.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(leases)).scalar_one()


def test_nothing_is_started_while_nothing_may_be_labelled(cloud: CloudState) -> None:
    labeller = make(cloud)
    for _ in range(3):
        labeller.tend()
        pass_time(cloud, LOOK_S)
    assert not labeller.busy


def test_one_that_stands_by_for_edges_is_started_though_nothing_waits(cloud: CloudState) -> None:
    labeller = make(cloud)
    labeller._standing = True
    labeller.tend()
    assert labeller.busy
    labeller.stop()


@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_in_mid_batch_again_and_again_loses_no_label_and_gives_none_twice(
    cloud: CloudState,
) -> None:
    add(cloud, range(1, 41))
    labeller, before = make(cloud), dict[str, float]()
    for _ in range(MOST_TRIES - 1):  # one more, and a frame that it had each time would be put aside
        labeller.tend()
        kill_in_mid_batch(labeller, cloud, len(before) + 2)
        now = labelled(cloud)
        assert {name: now.get(name) for name in before} == before
        before = now
        assert labeller.tend(), "its death is told"
        assert not labeller.busy, "not at once"
        pass_time(cloud, LONGEST_S)
    assert leased(cloud) > 0, "it had frames when it was killed"
    labeller.tend()
    wait_until(lambda: len(labelled(cloud)) == 40)
    wait_until(lambda: leased(cloud) == 0)
    after = labelled(cloud)
    assert {name: after[name] for name in before} == before
    assert cloud.frames.counts()[CAMERA].stored == 40
    labeller.stop()
    assert not labeller.busy


def test_a_worker_that_was_stopped_with_the_service_is_not_held_against_its_frames(cloud: CloudState) -> None:
    add(cloud, range(1, 41))
    labeller = make(cloud)
    labeller.tend()
    wait_until(lambda: leased(cloud) > 0)
    labeller.stop()
    assert leased(cloud) == 0


def test_a_worker_that_hangs_is_replaced(cloud: CloudState) -> None:
    add(cloud, range(1, 5))
    labeller = make(cloud)
    labeller.tend()
    wait_until(lambda: len(labelled(cloud)) == 4)
    process = labeller._child._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    labeller.tend()
    pass_time(cloud, 899)
    labeller.tend()
    assert labeller.busy
    pass_time(cloud, 900)
    labeller.tend()
    wait_until(lambda: not labeller.busy)
    add(cloud, range(5, 7))
    assert labeller.tend()
    pass_time(cloud, RETRY_S)
    labeller.tend()
    wait_until(lambda: len(labelled(cloud)) == 6)
    labeller.stop()


def test_a_worker_that_dies_again_and_again_is_started_ever_more_rarely_and_said_so(cloud: CloudState) -> None:
    add(cloud, range(1, 3))
    labeller = make(cloud, b"no settings")
    assert not labeller.problem
    for times in (1, 2, 3):
        labeller.tend()
        wait_until(lambda: not labeller.busy)
        labeller.tend()
        assert bool(labeller.problem) == (times > 1), "one death is an accident"
        pass_time(cloud, RETRY_S * 2 ** (times - 1) - 0.1)
        labeller.tend()
        assert not labeller.busy
        pass_time(cloud, 0.2)
    assert labeller.problem == "the process that labels died 3 times in a row, last with exit code 2"


def test_a_teacher_that_cannot_be_loaded_is_named_and_tried_again_until_it_can(cloud: CloudState) -> None:
    add(cloud, range(1, 3))
    weights = Path(str(cloud.settings.teacher.file))
    whole = weights.read_bytes()
    labeller = make(cloud)
    weights.write_bytes(whole[:1000])
    labeller.tend()
    wait_until(lambda: not labeller.busy)
    labeller.tend()
    assert str(weights) in labeller.problem
    assert leased(cloud) == 0, "no frame is held to blame"
    weights.write_bytes(whole)
    pass_time(cloud, RETRY_S)
    labeller.tend()
    wait_until(lambda: len(labelled(cloud)) == 2)
    wait_until(lambda: not labeller.problem)
    labeller.stop()


def test_what_an_earlier_service_said_is_over(cloud: CloudState) -> None:
    folder = cloud.data_dir / FOLDER
    folder.mkdir()
    (folder / "problem").write_text("the disk is full")
    ProgressWriter(folder, cloud.clock.now).advance()
    assert make(cloud).problem == ""
    assert LEASE_S < 900, "a lease ends before its worker is taken to hang"
