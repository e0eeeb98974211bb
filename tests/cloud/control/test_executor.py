from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.control.executor import MAX_HINDERED, RETRY_S, Executor, round_environment
from culling.cloud.settings import to_toml
from culling.cloud.store.rounds import STOPPED, Round
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
    return Executor(path, cloud.rounds, cloud.clock)


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


def test_a_round_is_told_its_settings_by_its_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CULLING_ROUND__KEPT", "7")
    monkeypatch.setenv("PATH", "/usr/bin")
    told = round_environment()
    assert told["PATH"] == "/usr/bin"
    assert not [name for name in told if name.startswith("CULLING_")]
