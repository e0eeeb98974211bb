from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from culling.cloud.store.index import rounds
from culling.cloud.store.rounds import LastRound, LeaseLostError
from culling.common.errors import StorageError
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
    first, second = (cloud.rounds.start(camera, "age", 1.0) for camera in (CAMERA, "yard"))
    cloud.rounds.end(first.id, "failed", {}, "why", 2.0)
    third = cloud.rounds.start(CAMERA, "age", 1.0)
    assert [turn.id for turn in cloud.rounds.all()] == [third.id, second.id, first.id]
    assert [turn.id for turn in cloud.rounds.all(CAMERA, limit=1)] == [third.id]
    assert [turn.id for turn in cloud.rounds.unfinished()] == [second.id, third.id]


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
    early = cloud.rounds.start(CAMERA, "manual", 1.0)
    cloud.rounds.save_stage(early.id, "label", {"labelled": 0})
    cloud.rounds.end(early.id, "refused", {}, "too few judges", 2.0)
    assert not cloud.rounds.taught()
    late = cloud.rounds.start(CAMERA, "manual", 3.0)
    cloud.rounds.save_stage(late.id, "cull", {"kept": ["a"]})
    cloud.rounds.end(late.id, "refused", {}, "no better", 4.0)
    assert cloud.rounds.taught() == {CAMERA}


def test_a_camera_has_one_unfinished_round_at_most(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    cloud.rounds.start("yard", "manual", 1.0)
    for state in ("running", "ready"):
        with pytest.raises(StorageError, match="camera gate has a round already: wait until it ends"):
            cloud.rounds.start(CAMERA, "age", 2.0)
        cloud.rounds.end(turn.id, "ready" if state == "running" else "failed", {}, "", 3.0)
    assert cloud.rounds.start(CAMERA, "age", 4.0).id > turn.id


def test_of_many_services_that_start_a_round_one_does(cloud: CloudState) -> None:
    def start(_: int) -> bool:
        try:
            return cloud.rounds.start(CAMERA, "age", 1.0) is not None
        except StorageError:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(start, range(16))) == 1
    assert len(cloud.rounds.all()) == 1


def test_a_lease_holds_until_the_next_one_is_given_or_the_round_is_over(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    first = cloud.rounds.lease(turn.id)
    assert cloud.rounds.holds(turn.id, first)
    second = cloud.rounds.lease(turn.id)
    assert (cloud.rounds.holds(turn.id, first), cloud.rounds.holds(turn.id, second)) == (False, True)
    cloud.rounds.end(turn.id, "failed", {}, "why", 6.0)
    assert not cloud.rounds.holds(turn.id, second)


def test_what_a_zombie_brings_is_discarded(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    dead = cloud.rounds.lease(turn.id)
    cloud.rounds.begin(turn.id, dead)
    cloud.rounds.save_stage(turn.id, "label", {"labelled": 3}, dead)
    lease = cloud.rounds.lease(turn.id)
    for write in (
        lambda: cloud.rounds.save_stage(turn.id, "label", {"labelled": 9}, dead),
        lambda: cloud.rounds.save_stage(turn.id, "score", {}, dead),
        lambda: cloud.rounds.end(turn.id, "ready", {"kept": 1}, "", None, dead),
        lambda: cloud.rounds.begin(turn.id, dead),
    ):
        with pytest.raises(LeaseLostError, match=f"round {turn.id} is over, or another process works on it now"):
            write()
    cloud.rounds.save_stage(turn.id, "score", {"scored": 2}, lease)
    cloud.rounds.end(turn.id, "ready", {"kept": 4}, "", None, lease)
    ended = cloud.rounds.get(turn.id)
    assert (ended.state, ended.report) == ("ready", {"kept": 4})
    assert ended.stages == {"label": {"labelled": 3}, "score": {"scored": 2}}


def test_a_process_whose_end_nobody_saw_is_noticed_by_the_next_and_a_zombie_hides_it_not(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    first = cloud.rounds.lease(turn.id)
    assert not cloud.rounds.begin(turn.id, first)
    second = cloud.rounds.lease(turn.id)
    assert cloud.rounds.begin(turn.id, second), "nobody saw the end of the first"
    cloud.rounds.leave(turn.id, first)  # it was not dead
    third = cloud.rounds.lease(turn.id)
    assert cloud.rounds.begin(turn.id, third), "nor that of the second"
    cloud.rounds.leave(turn.id, third)
    assert not cloud.rounds.begin(turn.id, cloud.rounds.lease(turn.id))


def test_a_process_that_was_replaced_and_ends_before_the_next_begins_did_not_crash(cloud: CloudState) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    first = cloud.rounds.lease(turn.id)
    cloud.rounds.begin(turn.id, first)
    second = cloud.rounds.lease(turn.id)
    cloud.rounds.leave(turn.id, first)
    assert not cloud.rounds.begin(turn.id, second)


def test_what_the_last_round_of_a_camera_gained_and_took_is_known(cloud: CloudState) -> None:
    assert cloud.rounds.last([CAMERA]) == {}
    figures = {"map_before": 0.25, "map_after": 0.75, "seconds": {"train": 30.0, "gate": 10.0}}
    for camera, state, report, ended in (
        (CAMERA, "published", figures | {"map_after": 0.5}, 3.0),
        (CAMERA, "published", figures, 9.0),
        ("yard", "refused", figures, 9.0),
        ("dock", "failed", {}, 61.0),
    ):
        cloud.rounds.end(cloud.rounds.start(camera, "age", 1.0).id, state, report, "", ended)
    cloud.rounds.start(CAMERA, "age", 10.0)
    assert cloud.rounds.last([CAMERA, "yard", "dock", "none"]) == {
        CAMERA: LastRound(0.5, 40.0),
        "yard": LastRound(0.0, 40.0),
        "dock": LastRound(0.0, 60.0),
    }
    assert cloud.rounds.last(["yard"]).keys() == {"yard"}
