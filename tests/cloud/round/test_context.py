from __future__ import annotations

import msgspec
import pytest

from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections
from support.rounds import EDGE, context_of


def test_what_the_teacher_doubts_is_told_apart_by_the_settings(cloud: CloudState) -> None:
    (frame,) = cloud.frames.get([frame_id(EDGE, "boot-1", 1)])
    rows = [(1, 1, 20, 20, score, 0) for score in (0.9, 0.5, 0.2, 0.05)]
    cloud.lifecycle.label({frame.id: detections(*rows)})
    (frame,) = cloud.frames.get([frame.id])
    teacher = cloud.settings.teacher.model_copy(update={"true_score": 0.5, "min_score": 0.1})
    cloud.settings = cloud.settings.model_copy(update={"teacher": teacher})
    compared = context_of(cloud).compared(frame, detections())
    assert compared.true.scores.tolist() == pytest.approx([0.9, 0.5])
    assert compared.doubtful.scores.tolist() == pytest.approx([0.2])


def test_a_provisional_student_is_judged_against_no_model_that_was_turned_down(cloud: CloudState) -> None:
    base = cloud.registry.live()[CAMERA]
    rejected = cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "round")
    assert cloud.registry.withdraw(CAMERA, rejected.model_id, "rejected")
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    cloud.rounds.end(turn.id, "ready", {"provisional": True})
    parent = cloud.registry.live()[CAMERA].model_id
    artefact = msgspec.structs.replace(cloud.artefact(tag="b"), parent=parent)
    doubted = cloud.publisher.publish_round(turn.id, CAMERA, artefact)
    earlier = context_of(cloud).provisional_since(doubted)
    assert earlier is not None
    assert earlier.artefact.sha256 == base.artefact.sha256
    renewed = cloud.publisher.renew(CAMERA)
    assert renewed.model_id in cloud.registry.provisional(CAMERA), "as uncertain as before"
    assert context_of(cloud).is_base(base)
    assert not context_of(cloud).is_base(renewed)
