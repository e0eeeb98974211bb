from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.round.context import RoundRefusedError
from culling.cloud.round.label import label
from support.cloud import CAMERA, CloudState, detections
from support.rounds import FAKE, add, context_of, enter, only, run
from support.stored import everything, label_all

PERSON = detections((1, 1, 20, 20, 0.9, 0))


def limit(cloud: CloudState, section: str, **changes: Any) -> None:
    """Change settings of a section."""
    changed = getattr(cloud.settings, section).model_copy(update=changes)
    cloud.settings = cloud.settings.model_copy(update={section: changed})


def test_a_round_reads_what_was_labelled_and_leaves_the_rest_to_the_next(cloud: CloudState) -> None:
    label_all(cloud, PERSON)
    add(cloud, range(20, 30))
    result = label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    judges = [frame.id for frame in everything(cloud) if frame.held_out and frame.labels is not None]
    assert sorted(result["held_out"]) == sorted(judges)
    assert result["labelled"] == 12
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.waiting, counts.asking) == (0, 10)
    label_all(cloud, PERSON)
    assert label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})["labelled"] == 10


def test_a_round_that_is_done_again_reads_the_same(cloud: CloudState) -> None:
    label_all(cloud, PERSON)
    turn = cloud.rounds.get(enter(cloud))
    assert label(context_of(cloud), turn, {}) == label(context_of(cloud), turn, {})


def test_a_round_without_frames_is_refused_and_says_what_the_teacher_has_still_to_see(cloud: CloudState) -> None:
    with pytest.raises(
        RoundRefusedError, match=r"no frame to learn from: none .* is labelled yet; 12 wait for the teacher"
    ):
        label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})


def test_a_round_without_new_frames_culls_from_the_pool(cloud: CloudState) -> None:
    label_all(cloud, PERSON)
    label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})["labelled"] == 0


def test_too_few_labelled_held_out_frames_end_a_round_before_it_trains(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(cloud, "gate", least=99)
    label_all(cloud, PERSON)
    add(cloud, range(20, 22))
    ran = only(monkeypatch, **{**FAKE, "label": label})
    round_id = enter(cloud)
    assert run(cloud, round_id) == "refused"
    assert ran == ["label"]
    reason = cloud.rounds.get(round_id).reason
    assert "2 labelled held-out frames, the gate needs 99" in reason
    assert reason.endswith("; 2 wait for the teacher, in vain: labelling.per_day is 0")
    assert cloud.frames.counts()[CAMERA].waiting, "none is used up that nobody learnt from"


def test_held_out_frames_that_show_nothing_end_a_round(cloud: CloudState) -> None:
    label_all(cloud, detections((1, 1, 20, 20, 0.05, 0)))
    with pytest.raises(RoundRefusedError, match="sure of no object in any of the 2 held-out frames"):
        label(context_of(cloud), cloud.rounds.get(enter(cloud)), {})
    assert not cloud.frames.counts()[CAMERA].waiting, "a night must not start one round after the other"
