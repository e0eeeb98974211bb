from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.people.deeds import operator
from culling.cloud.store.retention import forget_records
from culling.cloud.store.waves.trials import Plan, Trials, move
from culling.common.wire.messages import SwapReport
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState

NOTHING = {"rounds": 0, "swaps": 0, "requests": 0, "trials": 0, "rollouts": 0, "models": 0}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, FakeClock())
    state.enroll()
    yield state
    state.close()


def publish(cloud: CloudState, origin: str, tag: str = "") -> str:
    return cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), origin).model_id  # type: ignore[arg-type]


def test_models_out_of_use_are_forgotten_and_those_in_use_stay(cloud: CloudState) -> None:
    base, *_, previous, live = [publish(cloud, "base"), *(publish(cloud, "manual", tag) for tag in "abcd")]
    assert forget_records(cloud.index, cloud.clock.now() + 1) == NOTHING | {"models": 2}
    assert {model.model_id for model in cloud.registry.models(CAMERA)} == {base, previous, live}
    assert publish(cloud, "manual") == f"{CAMERA}-6", "no counter is ever used twice"


def test_what_is_over_is_forgotten_and_what_is_open_stays(cloud: CloudState) -> None:
    now = cloud.clock.now()
    for ended in (now, now + 0.5):
        cloud.rounds.end(cloud.rounds.start(CAMERA, "manual", now).id, "failed", {}, "", ended)
    cloud.rounds.start(CAMERA, "manual", now)
    asked, _ = (cloud.requests.ask("frame", CAMERA, now) for _ in range(2))
    cloud.requests.answer(asked, "done", False, now)
    cloud.registry.report(SwapReport(CAMERA, f"{CAMERA}-1", None, "live", "", 1.0, now), now)
    assert forget_records(cloud.index, now) == NOTHING, "not before its time"
    assert forget_records(cloud.index, now + 1) == NOTHING | {"rounds": 1, "swaps": 1, "requests": 1}
    assert len(cloud.rounds.unfinished()) == 1
    assert cloud.rounds.last_finished() == {CAMERA: now + 0.5}, "when a camera had its last round stays known"
    assert len(cloud.requests.open()) == 1


def test_a_rollout_that_is_over_is_forgotten_with_its_trials_and_one_that_is_halted_stays(cloud: CloudState) -> None:
    now, trials = cloud.clock.now(), Trials(cloud.index)
    students = {CAMERA: cloud.artefact()}
    for state in ("done", "halted"):
        number = trials.begin(Plan("a", students, {CAMERA: 0}, (1.0,), 0.1), operator(), now)
        trials.turn(number, ("running",), state, operator(), now, "", "halt")  # type: ignore[arg-type]
        (one,) = trials.trials(("waiting",))
        with cloud.index.write() as connection:
            if state == "done":
                move(connection, one, "passed", now)
    assert forget_records(cloud.index, now) == NOTHING, "not before its time"
    assert forget_records(cloud.index, now + 1) == NOTHING | {"trials": 1, "rollouts": 1}
    assert [one.state for one in trials.rollouts()] == ["halted"]
    assert [one.state for one in trials.trials()] == ["waiting"]
