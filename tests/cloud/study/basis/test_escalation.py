from __future__ import annotations

from culling.cloud.study.basis.escalation import mixed
from support.cloud import detections


def test_the_first_frames_of_an_order_are_the_teachers() -> None:
    student, teacher = detections((0, 0, 5, 5, 0.5, 0)), detections((0, 0, 5, 5, 0.9, 1))
    own, answers = dict.fromkeys(range(5), student), dict.fromkeys(range(5), teacher)
    answered = mixed(own, answers, [3, 1, 0, 2, 4], 0.4)
    assert {number for number, found in answered.items() if found is teacher} == {3, 1}
    assert mixed(own, answers, [3, 1, 0, 2, 4], 0.0) == own
