from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.control.executor import MAX_HINDERED, RETRY_S, Executor
from culling.cloud.round.progress import read_progress
from culling.cloud.settings import to_toml
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, Round
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, wait_until


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, FakeClock())
    yield state
    state.close()


def make(cloud: CloudState, settings: bytes | None = None) -> Executor:
    """Return an executor whose processes read these settings."""
    path = cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings) if settings is None else settings)
    return Executor(path, cloud.rounds, cloud.clock, cloud.settings.round.stall_s)


def run(executor: Executor, turn: Round) -> Round | None:
    executor.start(turn)
    wait_until(lambda: not executor.busy, within_s=90)
    return executor.collect()


def test_a_round_that_its_process_ended_is_returned_once(cloud: CloudState) -> None:
    executor = make(cloud)
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    ended = run(executor, turn)
    assert ended is not None
    assert (ended.id, ended.state) == (turn.id, "refused")
    assert executor.collect() is None


def test_a_process_that_died_is_started_again_only_after_a_while(cloud: CloudState) -> None:
    executor = make(cloud, b"no settings")
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    ended = run(executor, turn)
    assert ended is not None
    assert (ended.state, ended.crashes) == ("running", 1)
    executor.start(turn)
    assert not executor.busy
    assert isinstance(cloud.clock, FakeClock)
    cloud.clock.advance(RETRY_S)
    executor.start(turn)
    assert executor.busy
    executor.stop()


def test_a_process_that_works_is_stopped(cloud: CloudState) -> None:
    executor = make(cloud)
    executor.start(cloud.rounds.start(CAMERA, "manual", 1.0))
    assert executor.busy
    assert executor.collect() is None
    executor.stop()
    assert not executor.busy
    make(cloud).stop()


def test_a_round_that_cannot_write_for_too_long_makes_way_for_others(cloud: CloudState) -> None:
    turn, executor = cloud.rounds.start(CAMERA, "manual", 1.0), make(cloud)
    assert [executor.gave_up(turn, 7) for _ in range(MAX_HINDERED - 1)] == [""] * (MAX_HINDERED - 1)
    assert executor.gave_up(turn, STOPPED) == "", "only in a row"
    for _ in range(MAX_HINDERED - 1):
        assert executor.gave_up(turn, 7) == ""
    assert "20 times in a row" in executor.gave_up(turn, 7)
    assert cloud.rounds.get(turn.id).crashes == 0


PYTHON = sys.executable
HANGS = """
import signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from culling.cloud.round.progress import ProgressWriter
heart = ProgressWriter(Path({folder!r}), lambda: {at})
heart.stage("train")
heart.expect(40)
signal.pause()
"""


def hang(cloud: CloudState, monkeypatch: pytest.MonkeyPatch, turn: Round, at: float) -> None:
    """Have the next process write one heartbeat and then hang."""
    folder = cloud.data_dir / "rounds" / str(turn.id)
    folder.mkdir(parents=True, exist_ok=True)
    script = cloud.data_dir / "hangs"
    script.write_text("#!/bin/sh\nexec {} -c '{}'\n".format(
        PYTHON, HANGS.format(path=sys.path, folder=str(folder), at=at).replace("'", '"')
    ))  # fmt: skip
    script.chmod(0o700)
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", str(script))


def test_a_round_that_hangs_is_killed_tried_once_more_and_then_fails_with_its_stage(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, turn, clock = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0), cloud.clock
    assert isinstance(clock, FakeClock)
    folder = cloud.data_dir / "rounds" / str(turn.id)
    ends = []
    for at in (1.0, 2.0):
        hang(cloud, monkeypatch, turn, at)
        executor.start(turn)
        wait_until(lambda: (beat := read_progress(folder)) is not None and (beat.at, beat.steps) == (at, 40), 30)  # noqa: B023
        clock.advance(899)
        assert executor.kill_stalled() is None, "it has only just moved"
        clock.advance(899)
        assert executor.kill_stalled() is None
        clock.advance(1)
        killed = executor.kill_stalled()
        assert killed is not None
        assert killed.id == turn.id
        assert executor.kill_stalled() is None, "counted once"
        wait_until(lambda: not executor.busy, 30)
        ends.append(executor.collect())
        clock.advance(RETRY_S)
    assert [ended.state for ended in ends if ended] == ["running", "failed"]
    assert ends[1] is not None
    assert ends[1].reason == "its process hung 2 times for 900 s, last in stage train, step 0 of 40"


def test_a_process_that_is_killed_is_named_as_perhaps_out_of_memory(cloud: CloudState) -> None:
    turn, executor = cloud.rounds.start(CAMERA, "manual", 1.0), make(cloud)
    assert [executor.gave_up(turn, -9) for _ in range(MAX_CRASHES - 1)] == [""] * (MAX_CRASHES - 1)
    assert "3 times, last killed, perhaps for lack of memory" in executor.gave_up(turn, -9)


def test_a_process_whose_end_was_seen_has_left_the_round(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, turn, clock = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0), cloud.clock
    assert isinstance(clock, FakeClock)
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", "/bin/false")
    cloud.rounds.begin(turn.id)
    run(executor, turn)
    assert not cloud.rounds.begin(turn.id)
    clock.advance(RETRY_S)
    executor.start(turn)
    executor.stop()
    assert not cloud.rounds.begin(turn.id)


def test_a_process_is_told_to_stop_whose_round_was_ended_by_a_removal(cloud: CloudState) -> None:
    executor = make(cloud)
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    executor.start(turn)
    executor.stop_ended()
    assert executor.busy, "its round goes on"
    cloud.rounds.end(turn.id, "failed", {}, "the camera was removed", 2.0)
    executor.stop_ended()
    wait_until(lambda: not executor.busy, 60)
    ended = executor.collect()
    assert ended is not None
    assert (ended.state, ended.crashes) == ("failed", 0)
