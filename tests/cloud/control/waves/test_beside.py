"""What is concluded from two students on the same audits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.control.waves.beside import decide
from culling.cloud.evaluation.comparison import Judged, Rules
from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.tally import Tally, tally
from support.cloud import detections

RULES = Rules((0,), 0.1, 0.95)
CAR = (0.0, 0.0, 20.0, 20.0, 0.9, 0)


def seen(right: bool) -> Tally:
    """Return what a student did that finds the only car, or nothing."""
    return tally(Compared(detections(CAR) if right else detections(), detections(CAR)), 1)


def audits(*pairs: tuple[bool, bool]) -> list[Judged]:
    """Return audits, each of its own block: whether the one in use was right, and the one beside it."""
    return [Judged(f"{at:04}", at, 0, 1.0, seen(old), seen(new)) for at, (old, new) in enumerate(pairs)]


def test_while_too_few_audits_are_labelled_nothing_is_decided() -> None:
    assert decide(audits(*[(True, False)] * 23), RULES, 24, due=False) is None


def test_one_that_is_as_good_may_go_on() -> None:
    found = decide(audits(*[(True, True)] * 24), RULES, 24, due=False)
    assert found is not None
    assert (found.passed, found.why) == (True, "AP50 +0.000 (1.000 → 1.000, 24 audits of 24): not worse")


def test_one_that_is_certainly_worse_goes_although_by_little() -> None:
    found = decide(audits(*[(True, False)] * 8, *[(True, True)] * 120), RULES, 24, due=False)
    assert found is not None
    assert not found.passed
    assert "certainly worse, by 0.0" in found.why


def test_one_that_is_much_worse_goes_although_that_may_be_chance() -> None:
    found = decide(audits(*[(True, False)] * 9, *[(False, True)] * 4, *[(True, True)] * 11), RULES, 24, due=False)
    assert found is not None
    assert not found.passed
    assert found.why.endswith("worse by more than 0.1")


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_audits_by_the_deadline_judge_nobody_and_the_student_in_use_stays(count: int) -> None:
    found = decide(audits(*[(False, True)] * count), RULES, 24, due=True)
    assert found is not None
    assert not found.passed
    assert "too few to judge by" in found.why


def test_by_the_deadline_fewer_audits_decide() -> None:
    found = decide(audits(*[(True, True)] * 10), RULES, 24, due=True)
    assert found is not None
    assert found.passed


def test_audits_that_show_nothing_are_waited_beyond_until_the_deadline() -> None:
    nothing = tally(Compared(detections(), detections()), 1)
    empty = [Judged(f"{at:04}", at, 0, 1.0, nothing, nothing) for at in range(24)]
    assert decide(empty, RULES, 24, due=False) is None
    found = decide(empty, RULES, 24, due=True)
    assert found is not None
    assert not found.passed


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=30))
def test_one_that_is_nowhere_worse_always_goes_on(pairs: list[tuple[bool, bool]]) -> None:
    found = decide(audits(*((old, old or new) for old, new in pairs)), RULES, 10, due=False)
    assert found is not None
    assert found.passed
