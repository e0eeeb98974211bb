from __future__ import annotations

import pytest

from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.escalation import Escalation, mixed
from support.cloud import detections


def test_the_first_frames_of_an_order_are_the_teachers() -> None:
    student, teacher = detections((0, 0, 5, 5, 0.5, 0)), detections((0, 0, 5, 5, 0.9, 1))
    own, answers = dict.fromkeys(range(5), student), dict.fromkeys(range(5), teacher)
    answered = mixed(own, answers, [3, 1, 0, 2, 4], 0.4)
    assert {number for number, found in answered.items() if found is teacher} == {3, 1}
    assert mixed(own, answers, [3, 1, 0, 2, 4], 0.0) == own


def test_hindsight_asks_first_where_the_teacher_mends_most(corpus: Corpus) -> None:
    escalation = Escalation(corpus)
    own = escalation.own(corpus.base)
    orders = escalation.hindsight(own), escalation.unsure(own), escalation.drawn(0)
    assert all(sorted(order) == sorted(own) for order in orders)
    for share in (0.2, 0.5):
        best, *others = (escalation.mass(own, order, share) for order in orders)
        assert best <= min(others)
    assert escalation.mass(own, orders[0], 1.0) == pytest.approx(escalation.mass(own, orders[1], 1.0))
