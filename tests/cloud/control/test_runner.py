from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.control.executor import End, Executor
from culling.cloud.control.runner import MAX_HINDERED, RETRY_S, Runner
from culling.cloud.round.progress import read_progress
from culling.cloud.settings import to_toml
from culling.cloud.store.index import rounds
from culling.cloud.store.rounds import MAX_CRASHES, STOPPED, Round
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.waiting import wait_until


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, FakeClock())
    yield state
    state.close()


def make(cloud: CloudState, settings: bytes | None = None) -> Runner:
    """Return a runner whose processes read these settings."""
    path = cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings) if settings is None else settings)
    executor = Executor(path, cloud.settings, cloud.clock)
    return Runner(executor, cloud.rounds, cloud.clock, cloud.settings.round.stall_s)


def collect(runner: Runner, count: int = 1) -> list[Round]:
    """Return the rounds of so many processes, once they have ended."""
    ended: list[Round] = []

    def all_ended() -> bool:
        ended.extend(runner.collect())
        return len(ended) >= count

    wait_until(all_ended, within_s=90)
    return ended


def run(runner: Runner, turn: Round) -> Round:
    runner.start(turn)
    (ended,) = collect(runner)
    return ended


def lease_of(cloud: CloudState, turn: Round) -> str:
    with cloud.index.read() as connection:
        return str(connection.execute(sa.select(rounds.c.lease).where(rounds.c.id == turn.id)).scalar())


def ending(code: int, hung: bool = False) -> End:
    return End(1, "", code, hung, "in stage train")


def test_a_round_that_its_process_ended_is_returned_once(cloud: CloudState) -> None:
    runner = make(cloud)
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    ended = run(runner, turn)
    assert (ended.id, ended.state) == (turn.id, "refused")
    assert not list(runner.collect())


def test_a_process_that_died_is_started_again_only_after_a_while(cloud: CloudState) -> None:
    runner = make(cloud, b"no settings")
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    ended = run(runner, turn)
    assert (ended.state, ended.crashes) == ("running", 1)
    runner.start(turn)
    assert not runner.running
    assert isinstance(cloud.clock, FakeClock)
    cloud.clock.advance(RETRY_S)
    runner.start(turn)
    assert runner.running == {turn.id}
    runner.stop()


def test_a_process_that_works_is_stopped(cloud: CloudState) -> None:
    runner, turn = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0)
    runner.start(turn)
    assert runner.running == {turn.id}
    assert not list(runner.collect())
    runner.stop()
    assert not runner.running
    make(cloud).stop()


def test_a_round_that_cannot_write_for_too_long_makes_way_for_others(cloud: CloudState) -> None:
    turn, runner = cloud.rounds.start(CAMERA, "manual", 1.0), make(cloud)
    assert [runner.gave_up(turn, ending(7)) for _ in range(MAX_HINDERED - 1)] == [""] * (MAX_HINDERED - 1)
    assert runner.gave_up(turn, ending(STOPPED)) == "", "only in a row"
    for _ in range(MAX_HINDERED - 1):
        assert runner.gave_up(turn, ending(7)) == ""
    assert "20 times in a row" in runner.gave_up(turn, ending(7))
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
    runner, turn, clock = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0), cloud.clock
    assert isinstance(clock, FakeClock)
    folder = cloud.data_dir / "rounds" / str(turn.id)
    ends = []
    for at in (1.0, 2.0):
        hang(cloud, monkeypatch, turn, at)
        runner.start(turn)
        wait_until(lambda: (beat := read_progress(folder)) is not None and (beat.at, beat.steps) == (at, 40), 30)  # noqa: B023
        clock.advance(899)
        assert not runner.kill_stalled(), "it has only just moved"
        clock.advance(899)
        assert not runner.kill_stalled()
        clock.advance(1)
        assert [killed.id for killed in runner.kill_stalled()] == [turn.id]
        assert not runner.kill_stalled(), "counted once"
        ends += collect(runner)
        clock.advance(RETRY_S)
    assert [ended.state for ended in ends] == ["running", "failed"]
    assert ends[1].reason == "its process hung 2 times for 900 s, last in stage train, step 0 of 40"


def test_a_process_that_is_killed_is_named_as_perhaps_out_of_memory(cloud: CloudState) -> None:
    turn, runner = cloud.rounds.start(CAMERA, "manual", 1.0), make(cloud)
    assert [runner.gave_up(turn, ending(-9)) for _ in range(MAX_CRASHES - 1)] == [""] * (MAX_CRASHES - 1)
    assert "3 times, last killed, perhaps for lack of memory" in runner.gave_up(turn, ending(-9))


def test_a_process_whose_end_was_seen_has_left_the_round(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, turn, clock = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0), cloud.clock
    assert isinstance(clock, FakeClock)
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", "/bin/false")
    for end in (lambda: collect(runner), runner.stop):
        runner.start(turn)
        cloud.rounds.begin(turn.id, lease_of(cloud, turn))  # as a process does that has not said that it ended
        end()
        lease = cloud.rounds.lease(turn.id)
        assert not cloud.rounds.begin(turn.id, lease)
        cloud.rounds.leave(turn.id, lease)
        clock.advance(RETRY_S)


def test_a_process_is_told_to_stop_whose_round_was_ended_by_a_removal(cloud: CloudState) -> None:
    runner = make(cloud)
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    runner.start(turn)
    runner.stop_ended([turn.id])
    assert runner.running, "its round goes on"
    cloud.rounds.end(turn.id, "failed", {}, "the camera was removed", 2.0)
    runner.stop_ended([])
    (ended,) = collect(runner)
    assert (ended.state, ended.crashes) == ("failed", 0)


def test_rounds_of_several_cameras_run_at_once_and_no_more_than_may(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path, FakeClock(), executor={"parallel": 2})
    runner, turns = make(cloud), [cloud.rounds.start(camera, "manual", 1.0) for camera in (CAMERA, "yard", "dock")]
    for turn in (*turns, *turns):
        runner.start(turn)
    assert runner.running == {turns[0].id, turns[1].id}
    assert {turn.id: turn.state for turn in collect(runner, 2)} == {turns[0].id: "refused", turns[1].id: "refused"}
    runner.start(turns[2])
    assert runner.running == {turns[2].id}
    runner.stop()
    assert not runner.running
    cloud.close()


def test_the_death_of_one_process_is_counted_for_its_round_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = CloudState(tmp_path, FakeClock(), executor={"parallel": 2})
    runner, turns = make(cloud), [cloud.rounds.start(camera, "manual", 1.0) for camera in (CAMERA, "yard")]
    runner.start(turns[0])
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", "/bin/false")
    runner.start(turns[1])
    collect(runner, 2)
    assert [cloud.rounds.get(turn.id).crashes for turn in turns] == [0, 1]
    runner.start(turns[1])
    assert not runner.running, "it has only just died"
    cloud.close()


def test_a_process_whose_round_another_has_taken_over_counts_for_nothing(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, turn = make(cloud), cloud.rounds.start(CAMERA, "manual", 1.0)
    monkeypatch.setattr("culling.cloud.control.child.sys.executable", "/bin/false")
    runner.start(turn)
    cloud.rounds.lease(turn.id)
    (ended,) = collect(runner)
    assert (ended.state, ended.crashes) == ("running", 0)
