from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.index import rounds
from support.cloud import CAMERA, CloudState


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def test_a_round_begins_with_nothing_done(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    assert (turn.state, turn.stages, turn.report, turn.crashes) == ("running", {}, {}, 0)
    assert cloud.rounds.unfinished() == [turn] == cloud.rounds.all()


def test_the_result_of_every_stage_is_kept(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    cloud.rounds.save_stage(turn.id, "label", {"labelled": 3})
    cloud.rounds.save_stage(turn.id, "cull", {"kept": ["a"], "value": 0.5})
    stages = cloud.rounds.get(turn.id).stages
    assert stages == {"label": {"labelled": 3}, "cull": {"kept": ["a"], "value": 0.5}}
    assert list(stages) == ["label", "cull"]


def test_the_last_round_of_a_camera_is_the_one_that_ended_last(cloud: CloudState) -> None:
    cloud.enroll(CAMERA, "yard", "dock")
    assert cloud.rounds.last_finished() == {}
    for camera, ended in ((CAMERA, 9.0), (CAMERA, 7.0), ("yard", 3.0)):
        cloud.rounds.end(cloud.rounds.start(camera, "manual", 1.0).id, "failed", {}, "why", ended)
    cloud.rounds.start("dock", "manual", 1.0)
    assert cloud.rounds.last_finished() == {CAMERA: 9.0, "yard": 3.0}


@pytest.mark.parametrize(("state", "unfinished"), [("ready", 1), ("refused", 0), ("failed", 0)])
def test_a_ready_round_is_not_finished(cloud: CloudState, state: str, unfinished: int) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    cloud.rounds.end(turn.id, state, {"kept": 4}, "why", None if unfinished else 9.0)
    assert len(cloud.rounds.unfinished()) == unfinished
    ended = cloud.rounds.get(turn.id)
    assert (ended.state, ended.report, ended.reason) == (state, {"kept": 4}, "why")


def test_a_round_that_ended_stays_as_it_is(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    cloud.rounds.end(turn.id, "refused", {}, "worse", 9.0)
    cloud.rounds.end(turn.id, "ready", {}, "", None)
    assert cloud.rounds.get(turn.id).state == "refused"


def test_crashes_are_counted(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    assert [cloud.rounds.crashed(turn.id) for _ in range(3)] == [1, 2, 3]


def test_rounds_are_listed_newest_first_and_by_camera(cloud: CloudState) -> None:
    first, second, third = (cloud.rounds.start(camera, "age", 1.0) for camera in (CAMERA, "yard", CAMERA))
    assert [turn.id for turn in cloud.rounds.all()] == [third.id, second.id, first.id]
    assert [turn.id for turn in cloud.rounds.all(CAMERA, limit=1)] == [third.id]
    assert [turn.id for turn in cloud.rounds.unfinished()] == [first.id, second.id, third.id]


def test_a_model_that_no_round_made_has_no_newest_capture(cloud: CloudState) -> None:
    assert cloud.rounds.newest_capture(CAMERA, "gate-1") is None


def test_a_round_whose_record_rotted_does_not_hide_the_others(cloud: CloudState) -> None:
    first, second = (cloud.rounds.start(camera, "manual", 1.0) for camera in ("yard", "road"))
    with cloud.index.write() as connection:
        connection.execute(rounds.update().where(rounds.c.id == first.id).values(stages="{half", report="half}"))
    assert [turn.id for turn in cloud.rounds.unfinished()] == [first.id, second.id]
    assert cloud.rounds.get(first.id).stages == {}


def test_a_camera_was_taught_once_a_round_of_it_found_something_to_teach(cloud: CloudState) -> None:
    cloud.enroll()
    early, late = (cloud.rounds.start(CAMERA, "manual", at) for at in (1.0, 3.0))
    cloud.rounds.save_stage(early.id, "label", {"labelled": 0})
    cloud.rounds.end(early.id, "refused", {}, "too few judges", 2.0)
    assert not cloud.rounds.taught()
    cloud.rounds.save_stage(late.id, "cull", {"kept": ["a"]})
    cloud.rounds.end(late.id, "refused", {}, "no better", 4.0)
    assert cloud.rounds.taught() == {CAMERA}
