"""What becomes of a candidate for another class list: shared classes are compared, new ones held against the labels."""

from __future__ import annotations

import pytest

from culling.cloud.evaluation.comparison import Judged, Rules, compare_students
from culling.cloud.evaluation.relisted import Newcomer, decide_relisted, newcomer
from culling.cloud.evaluation.tally import Tally
from culling.cloud.evaluation.verdict import Verdict
from culling.cloud.settings import GateSettings
from support.judged import tally

CLASSES = ("person", "bottle")
SHARED, NEW = Rules((0,), resamples=200), Rules((1,), resamples=200)
PERSON, LOST = (1, [0.9], []), (1, [], [])
FOUND, MISSED, FEW, NONE = (1, [0.8], []), (1, [], []), (0, [], []), (0, [], [])


def frames_of(before: Tally, after: Tally, count: int = 40) -> list[Judged]:
    return [Judged(f"{at:04d}", at // 4, 12, 1.0, before, after) for at in range(count)]


def verdict(frames: list[Judged]) -> Verdict:
    return decide_relisted(
        compare_students(frames, SHARED), [newcomer(frames, "bottle", NEW)], GateSettings(), 64, CLASSES
    )


def test_one_that_finds_what_is_new_and_loses_nothing_is_published() -> None:
    told = verdict(frames_of(tally(PERSON, MISSED), tally(PERSON, FOUND)))
    assert told.outcome == "published"
    assert "compared by person alone" in told.reason
    assert "bottle is new: AP50 1.000 by 40 objects" in told.reason


def test_one_that_loses_a_class_that_both_find_is_refused() -> None:
    told = verdict(frames_of(tally(PERSON, MISSED), tally(LOST, FOUND)))
    assert told.outcome == "refused"
    assert told.reason.endswith(": what both find got worse by more than gate.worse = 0.1"), "and what is new is found"


def test_one_that_does_not_find_what_is_new_is_refused() -> None:
    told = verdict(frames_of(tally(PERSON, MISSED), tally(PERSON, MISSED)))
    assert told.outcome == "refused"
    assert "not found" in told.reason


def test_where_only_certainty_is_missing_it_is_provisional() -> None:
    told = verdict(frames_of(tally(PERSON, MISSED), tally(PERSON, FOUND), count=12))
    assert told.outcome == "provisional"


def test_a_class_that_no_judge_shows_cannot_be_certain_and_must_not_be_imagined() -> None:
    assert verdict(frames_of(tally(PERSON, NONE), tally(PERSON, NONE))).outcome == "provisional"
    imagined = verdict(frames_of(tally(PERSON, NONE), tally(PERSON, (0, [], [0.9]))))
    assert imagined.outcome == "refused"
    assert "100% of frames have a false one" in imagined.reason


def test_a_list_that_only_lost_a_class_need_not_be_better() -> None:
    frames = frames_of(tally(PERSON, NONE), tally(PERSON, NONE))
    assert decide_relisted(compare_students(frames, SHARED), [], GateSettings(), 64, CLASSES).outcome == "published"


def test_without_a_class_that_both_find_the_labels_alone_decide() -> None:
    frames = frames_of(tally(NONE, MISSED), tally(NONE, FOUND))
    told = decide_relisted(None, [newcomer(frames, "bottle", NEW)], GateSettings(), 64, CLASSES)
    assert told.outcome == "published"
    assert "no class that both find has an object" in told.reason


@pytest.mark.parametrize(("objects", "alarms", "likely"), [(4, 0.05, True), (4, 0.5, False), (0, 0.0, True)])
def test_of_few_objects_false_alarms_decide(objects: int, alarms: float, likely: bool) -> None:
    assert Newcomer("bottle", objects, 0.0 if objects else None, None, alarms).likely(0.1, 0.1) is likely
