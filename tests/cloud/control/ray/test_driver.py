"""Rounds in a real cluster of Ray, of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from culling.cloud.control.actions import to_artefact
from culling.cloud.control.executor import Executor
from culling.cloud.control.publish import SupersededError
from culling.cloud.control.ray.driver import WAITS, _repeat
from culling.cloud.control.runner import RETRY_S, Runner
from culling.cloud.round.progress import FILE, Progress, read_progress
from culling.cloud.settings import to_toml
from culling.cloud.store.rounds import Round
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.ray_head import RayHead
from support.rounds import QUICK, camera_with_student, enter, start
from support.waiting import wait_until

TRAINING = {**QUICK["round"], "most_steps": 60, "patience": 60}
"""Steps that take long enough to be killed in, after a checkpoint: seconds, since a beat is written each second."""


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path, head: RayHead, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudState]:
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    options = {"kind": "ray", "address": head.address, "parallel": 2}
    state = camera_with_student(tmp_path, narrow, executor=options, round=TRAINING)
    yield state
    state.close()


def make(cloud: CloudState) -> tuple[Runner, FakeClock]:
    clock = FakeClock()
    path = cloud.data_dir / "round.toml"
    path.write_bytes(to_toml(cloud.settings))
    return Runner(Executor(path, cloud.settings, clock), cloud.rounds, clock, 900.0), clock


def collect(runner: Runner) -> Round:
    ended: list[Round] = []
    wait_until(lambda: bool(ended.extend(runner.collect()) or ended), 170)
    return ended[0]


def process_of(cloud: CloudState, turn: Round) -> psutil.Process | None:
    """Return the process on the node that works on a round under its lease; its parent is Ray's worker."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if {"culling.cloud.round", "--lease"} <= set(words) and cloud.rounds.holds(
            turn.id, words[words.index("--lease") + 1]
        ):
            return process
    return None


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_round_whose_worker_is_killed_goes_on_after_its_last_stage_and_is_published_once(cloud: CloudState) -> None:
    turn, (runner, clock) = cloud.rounds.get(start(cloud)), make(cloud)
    folder = cloud.data_dir / "rounds" / str(turn.id)
    runner.start(turn)
    wait_until(lambda: (beat := read_progress(folder)) is not None and beat.stage == "train" and beat.step > 0, 170)
    process, before = process_of(cloud, turn), cloud.rounds.get(turn.id).stages
    assert process is not None
    process.parent().kill()
    ended = collect(runner)
    assert (ended.state, ended.crashes) == ("running", 1)
    wait_until(lambda: not process.is_running())
    clock.advance(RETRY_S)
    runner.start(turn)
    ended = collect(runner)
    assert (ended.state, ended.crashes) == ("ready", 1)
    assert {name: ended.stages[name] for name in before} == before, "no stage was done again"

    artefact = to_artefact(ended.stages["gate"]["artefact"])
    assert cloud.publisher.publish_round(turn.id, CAMERA, artefact).counter == 2
    with pytest.raises(SupersededError, match="is over already: it is published"):
        cloud.publisher.publish_round(turn.id, CAMERA, artefact)
    assert len(cloud.registry.models(CAMERA)) == 2


@pytest.mark.fault
@pytest.mark.timeout(400)
def test_a_round_whose_head_dies_waits_for_it_and_goes_on_when_it_is_back(cloud: CloudState, head: RayHead) -> None:
    turn, (runner, clock) = cloud.rounds.get(enter(cloud)), make(cloud)
    runner.start(turn)
    wait_until(lambda: process_of(cloud, turn) is not None, 120)
    process = process_of(cloud, turn)
    assert process is not None
    words = process.cmdline()
    lease = words[words.index("--lease") + 1]
    head.kill()
    ended = collect(runner)
    assert (ended.state, ended.crashes) == ("running", 1)
    wait_until(lambda: not process.is_running())

    clock.advance(RETRY_S)
    runner.start(turn)
    ended = collect(runner)
    assert (ended.state, ended.crashes) == ("running", 1), "a head that is gone is no crash of the round's"
    assert not cloud.rounds.holds(turn.id, lease), "whoever still works for the first try writes nothing"

    head.start()
    clock.advance(RETRY_S)
    runner.start(turn)
    wait_until(lambda: process_of(cloud, turn) is not None, 120)
    runner.stop()
    left = cloud.rounds.get(turn.id)
    assert (left.state, left.crashes) == ("running", 1)
    assert cloud.rounds.unfinished() == [left]


@pytest.mark.timeout(400)
def test_a_round_that_is_stopped_with_the_service_ends_on_its_node_and_did_not_crash(cloud: CloudState) -> None:
    turn, (runner, _) = cloud.rounds.get(start(cloud)), make(cloud)
    runner.start(turn)
    wait_until(lambda: process_of(cloud, turn) is not None, 90)
    process = process_of(cloud, turn)
    assert process is not None
    runner.stop()
    wait_until(lambda: not process.is_running(), 120)
    left = cloud.rounds.get(turn.id)
    assert (left.state, left.crashes) == ("running", 0)
    assert not cloud.rounds.begin(turn.id, cloud.rounds.lease(turn.id))


def beat(at: float, stage: str = "train") -> bytes:
    return msgspec.json.encode(Progress(stage, 1, 2, at, 0.0))


def test_the_heartbeat_of_another_machine_is_repeated_unless_a_later_one_is_here(tmp_path: Path) -> None:
    for told, expected in (
        (beat(5.0, WAITS), 5.0),
        (beat(2.0), 2.0),  # by the clock of the other
        (beat(4.0), 4.0),
        (beat(3.0), 4.0),
        (b"", 4.0),
        (beat(6.0), 6.0),
    ):
        _repeat(tmp_path, told)
        found = read_progress(tmp_path)
        assert found is not None
        assert found.at == expected
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
