from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.evaluation.mistakes import LESSONS
from culling.cloud.round.context import RoundRefusedError
from culling.cloud.round.cull import cull
from culling.common.frame import Detections
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections
from support.rounds import EDGE, add, context_of, enter
from support.stored import everything

PERSON = detections((1, 1, 20, 20, 0.9, 0))
"""What every student in these tests sees: the frames that are labelled with it are right."""
CAR_TOO = detections((1, 1, 20, 20, 0.9, 0), (60, 60, 90, 90, 0.8, 2))
NOTHING = detections()


def trained(cloud: CloudState) -> list[str]:
    return [frame.id for frame in everything(cloud) if not frame.held_out]


def label(cloud: CloudState) -> None:
    """Label all frames as the student saw them."""
    cloud.lifecycle.label({frame.id: PERSON for frame in everything(cloud)})


def wrong(cloud: CloudState, names: list[str], labels: Detections = CAR_TOO) -> None:
    cloud.lifecycle.label(dict.fromkeys(names, labels))


def culled(cloud: CloudState) -> dict[str, Any]:
    return cull(context_of(cloud), cloud.rounds.get(enter(cloud)), {})


def policy(cloud: CloudState, name: str, **changes: Any) -> None:
    changed = cloud.settings.round.model_copy(update={"policy": name, **changes})
    cloud.settings = cloud.settings.model_copy(update={"round": changed})


@pytest.mark.parametrize("name", ["mistakes", "precision"])
def test_only_frames_on_which_the_student_is_wrong_are_kept(cloud: CloudState, name: str) -> None:
    policy(cloud, name)
    label(cloud)
    hard = trained(cloud)[2:5]
    wrong(cloud, hard)
    result = culled(cloud)
    assert sorted(result["kept"]) == sorted(hard)
    assert result["replay"]
    assert not set(result["replay"]) & set(hard)
    assert result["teaching"] == 3
    assert result["hardness"] == 0.5
    assert result["mass"] == pytest.approx(0.8, abs=1e-3)


def test_the_policies_differ_where_one_class_of_many_is_wrong(cloud: CloudState) -> None:
    """Three cars missed beside a person found are half wrong by precision; one person in a wrong place is all wrong."""
    add(cloud, range(20, 40))
    label(cloud)
    names = trained(cloud)
    cars = detections(
        (1, 1, 20, 20, 0.9, 0), (60, 60, 90, 90, 0.9, 2), (60, 10, 90, 40, 0.9, 2), (20, 50, 50, 90, 0.9, 2)
    )
    wrong(cloud, names[:1], cars)
    wrong(cloud, names[1:2], detections((60, 60, 90, 90, 0.9, 0)))
    limited = {"kept": 1}
    policy(cloud, "mistakes", **limited)
    assert culled(cloud)["kept"] == names[:1]
    policy(cloud, "precision", **limited)
    assert culled(cloud)["kept"] == names[1:2]


def test_frames_of_a_refused_round_are_candidates_again(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud)[:2])
    first = cloud.rounds.get(enter(cloud))
    cloud.lifecycle.claim(CAMERA, first.id)
    kept = cull(context_of(cloud), first, {})["kept"]
    cloud.rounds.end(first.id, "refused", {}, "no better", 1.0)
    assert culled(cloud)["kept"] == kept


def test_a_round_never_keeps_more_than_half_of_its_pool(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud))
    policy(cloud, "mistakes", kept=100)
    result = culled(cloud)
    assert len(result["kept"]) == result["pool"] // 2


def test_a_round_has_nothing_to_teach_where_the_student_is_right(cloud: CloudState) -> None:
    label(cloud)
    with pytest.raises(RoundRefusedError, match="nothing to teach: the student in use is right on all 10"):
        culled(cloud)


def test_a_round_without_a_picture_that_can_be_used_is_refused(cloud: CloudState) -> None:
    with pytest.raises(RoundRefusedError, match="none of the pictures could be used"):
        culled(cloud)


def test_hard_negatives_are_capped(cloud: CloudState) -> None:
    label(cloud)
    names = trained(cloud)
    wrong(cloud, names, NOTHING)
    wrong(cloud, names[:1])
    result = culled(cloud)
    assert result["hard_negatives"] == 1
    assert names[0] in result["kept"]


def test_a_teacher_that_sees_nothing_ends_a_round_before_it_trains(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud), NOTHING)
    with pytest.raises(RoundRefusedError, match="nothing to teach but background"):
        culled(cloud)


def test_frames_are_judged_by_the_student_in_use_not_by_the_one_that_sent_them(cloud: CloudState) -> None:
    add(cloud, range(20, 24), model_id="gate-0", found=CAR_TOO)
    label(cloud)
    names = [frame.id for frame in everything(cloud) if frame.model_id == "gate-0" and not frame.held_out]
    wrong(cloud, [names[0]])
    cloud.lifecycle.score("gate-1", dict.fromkeys(names, PERSON))
    assert culled(cloud)["kept"] == [names[0]]


def test_frames_that_the_student_in_use_has_not_seen_teach_nothing_yet(cloud: CloudState) -> None:
    add(cloud, range(20, 24), model_id="gate-0", found=CAR_TOO)
    label(cloud)
    wrong(cloud, trained(cloud)[:1])
    assert culled(cloud)["pool"] == 10


def test_held_out_frames_are_never_kept_nor_replayed(cloud: CloudState) -> None:
    wrong(cloud, [frame.id for frame in everything(cloud)])
    result = culled(cloud)
    used = cloud.frames.get([*result["kept"], *result["replay"]])
    assert used
    assert not any(frame.held_out for frame in used)


def test_only_this_rounds_audits_are_counted(cloud: CloudState) -> None:
    add(cloud, range(40, 46), reason="audit", loss=0.0)
    label(cloud)
    first = cloud.rounds.get(enter(cloud))
    cloud.lifecycle.claim(CAMERA, first.id)
    audits = [frame.id for frame in everything(cloud) if frame.reason == "audit" and not frame.held_out]
    wrong(cloud, audits[:2], NOTHING)
    wrong(cloud, trained(cloud)[:1])
    result = cull(context_of(cloud), first, {})
    assert (result["audits_labelled"], result["audits_missed"]) == (len(audits), 2)
    assert culled(cloud)["audits_labelled"] == 0


def test_no_frame_is_trained_on_twice_after_a_round_that_failed(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud)[:3])
    failed = cloud.rounds.get(enter(cloud))
    cull(context_of(cloud), failed, {})
    cloud.rounds.end(failed.id, "failed", {}, "the teacher is missing", 1.0)
    result = culled(cloud)
    assert result["kept"]
    assert not set(result["kept"]) & set(result["replay"])


def test_a_middling_box_that_stands_still_neither_culls_nor_trains(cloud: CloudState) -> None:
    label(cloud)
    add(cloud, range(1000, 1400, 40), boot="boot-2")
    stands = detections((1, 1, 20, 20, 0.9, 0), (60, 60, 90, 90, 0.15, 2))
    cloud.lifecycle.label({frame.id: stands for frame in everything(cloud)})
    with pytest.raises(RoundRefusedError, match="nothing to teach"):
        culled(cloud)
    assert cloud.frames.get([frame_id(EDGE, "boot-1", 1)])[0].labels is not None


def test_a_frame_on_which_three_students_learnt_nothing_is_left_out(cloud: CloudState) -> None:
    label(cloud)
    phantom, hard = trained(cloud)[:2]
    wrong(cloud, [phantom, hard])
    for number in range(LESSONS):
        turn = cloud.rounds.get(enter(cloud))
        result = cull(context_of(cloud), turn, {})
        assert (set(result["kept"]), result["in_vain"]) == ({phantom, hard}, 0), number
        learnt = result | {"masses": result["masses"] | {hard: 2.0}}  # of which more than half was mended since
        cloud.rounds.save_stage(turn.id, "cull", learnt)
        cloud.rounds.end(turn.id, "published", {}, "", 1.0)
    result = culled(cloud)
    assert (result["kept"], result["in_vain"]) == ([hard], 1)
    assert phantom not in result["replay"]
    cloud.lifecycle.label({hard: PERSON})
    with pytest.raises(RoundRefusedError, match="1 others taught several students nothing: look at their labels"):
        culled(cloud)


def test_rounds_that_were_refused_taught_nobody(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud)[:1])
    for _ in range(LESSONS + 1):
        turn = cloud.rounds.get(enter(cloud))
        result = cull(context_of(cloud), turn, {})
        assert result["in_vain"] == 0
        cloud.rounds.save_stage(turn.id, "cull", result)
        cloud.rounds.end(turn.id, "refused", {}, "no better", 1.0)


def test_progress_is_told_while_a_pool_is_judged(cloud: CloudState) -> None:
    label(cloud)
    wrong(cloud, trained(cloud)[:1])
    context, steps = context_of(cloud), []
    context.heart.advance = lambda count=1: steps.append(count)  # type: ignore[method-assign]
    cull(context, cloud.rounds.get(enter(cloud)), {})
    assert len(steps) > len(trained(cloud))
