from __future__ import annotations

import pytest

from culling.cloud.store.frames import frame_id
from support.cloud import CloudState, detections
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
