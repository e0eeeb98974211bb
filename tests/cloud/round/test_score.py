from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.round import score as stage
from culling.cloud.round.context import StoppedError
from culling.cloud.round.score import score, seen
from culling.common.frame import Detections
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections
from support.rounds import EDGE, add, context_of, enter
from support.stored import everything

PERSON, FAR = detections((1, 1, 20, 20, 0.9, 0)), detections((60, 60, 90, 90, 0.9, 0))


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the frames that the student in use was shown, in order; it sees a person in each."""
    names: list[str] = []

    def look(context: Any, graph: Any, live: Any, frames: Any) -> dict[str, Detections]:
        names.extend(frame.id for frame in frames)
        return {frame.id: PERSON for frame in frames}

    monkeypatch.setattr(stage, "look", look)
    return names


def name(seq: int) -> str:
    return frame_id(EDGE, "boot-1", seq)


def pool(cloud: CloudState, labels: Detections = PERSON, **changes: Any) -> list[str]:
    """Store frames of another student and label them all; return the names of those that may be trained on."""
    add(cloud, range(20, 32), model_id="gate-0", **changes)
    frames = [frame for frame in everything(cloud) if frame.model_id == "gate-0"]
    cloud.lifecycle.label({frame.id: labels for frame in frames})
    return [frame.id for frame in frames if not frame.held_out]


def test_what_the_student_in_use_forwarded_itself_needs_no_second_look(cloud: CloudState, looked: list[str]) -> None:
    cloud.lifecycle.label({frame.id: PERSON for frame in everything(cloud)})
    result = score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert (result["model"], result["scored"], looked) == ("gate-1", 0, [])
    assert result["pool"] == sum(not frame.held_out for frame in everything(cloud))


def test_frames_of_another_student_are_looked_at_once(cloud: CloudState, looked: list[str]) -> None:
    names = pool(cloud)
    assert score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})["scored"] == len(names)
    assert score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})["scored"] == 0
    assert sorted(looked) == sorted(names)
    context = context_of(cloud)
    found = seen(context, context.incumbent(CAMERA), cloud.frames.get(names))
    assert {each: found[each].boxes.tolist() for each in names} == dict.fromkeys(names, PERSON.boxes.tolist())


def test_another_student_looks_again_and_what_the_last_one_saw_is_forgotten(
    cloud: CloudState, looked: list[str]
) -> None:
    names = pool(cloud)
    score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    cloud.publisher.publish(CAMERA, cloud.registry.live()[CAMERA].artefact, "round")
    score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert len(looked) == 2 * len(names)
    assert cloud.lifecycle.scores("gate-1") == {}
    assert set(cloud.lifecycle.scores("gate-2")) == set(names)


def test_a_cap_takes_the_worst_first_and_of_equals_the_newest(cloud: CloudState, looked: list[str]) -> None:
    names = pool(cloud)
    cloud.lifecycle.label({names[2]: FAR})
    limited = cloud.settings.round.model_copy(update={"scored": 3})
    cloud.settings = cloud.settings.model_copy(update={"round": limited})
    result = score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert looked == [names[2], names[-1], names[-2]]
    assert result["unseen"] == len(names) - 3


def test_a_stage_that_is_stopped_keeps_what_it_scored(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    names, batches = pool(cloud), []
    monkeypatch.setattr(stage, "BATCH", 4)

    def look(context: Any, graph: Any, live: Any, frames: Any) -> dict[str, Detections]:
        if len(batches) == 1:
            batches.append([])
            raise StoppedError
        batches.append(frames)
        return {frame.id: PERSON for frame in frames}

    monkeypatch.setattr(stage, "look", look)
    turn = cloud.rounds.get(enter(cloud))
    with pytest.raises(StoppedError):
        score(context_of(cloud), turn, {})
    assert len(cloud.lifecycle.scores("gate-1")) == 4
    assert score(context_of(cloud), turn, {})["scored"] == len(names) - 4


def test_half_of_a_pool_that_rotted_is_put_aside(cloud: CloudState) -> None:
    names = pool(cloud)
    for each in names[::2]:
        cloud.frames.path(CAMERA, each).write_bytes(b"rotten")
    score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert set(cloud.lifecycle.scores("gate-1")) == set(names[1::2])
    assert not set(names[::2]) & {frame.id for frame in everything(cloud)}


def test_scores_of_a_frame_that_is_gone_go_too(cloud: CloudState, looked: list[str]) -> None:
    names = pool(cloud)
    score(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    cloud.frames.remove(CAMERA, names[:2])
    cloud.lifecycle.expire(10**9, 30.0)
    assert set(cloud.lifecycle.scores("gate-1")) == set(names[2:])
