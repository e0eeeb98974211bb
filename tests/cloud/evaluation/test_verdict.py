from __future__ import annotations

import math
from dataclasses import replace

from culling.cloud.evaluation.comparison import Check, StudentComparison
from culling.cloud.evaluation.verdict import decide, describe

CLASSES = ("person", "bus")
BETTER = StudentComparison(0.6, 0.621, 0.004, 64, 16, 0.95, ())
UNSURE = replace(BETTER, low=-0.013, frames=38)
PERSON = Check("class", "0", 0.6, 0.65, 300, 0.1, 0.01)


def outcome(found: StudentComparison, first: bool = False, margin: float = 0.0) -> tuple[str, str]:
    verdict = decide(found, margin, 64, first, CLASSES)
    return verdict.outcome, verdict.reason


def test_a_gain_that_is_certain_is_published() -> None:
    told = "AP50 +0.021 (0.600 → 0.621, 64 judges in 16 blocks), at least +0.004 (95 %)"
    assert outcome(BETTER) == ("published", told)


def test_a_gain_that_may_be_a_loss_is_refused_with_what_is_missing() -> None:
    told = (
        "AP50 +0.021 (0.600 → 0.621, 38 of 64 judges wanted, in 16 blocks), but the gain may be as low as -0.013 "
        "(95 %), and must exceed +0"
    )
    assert outcome(UNSURE) == ("refused", told)


def test_a_first_student_goes_live_as_provisional_where_only_certainty_is_missing() -> None:
    assert outcome(UNSURE, first=True)[0] == "provisional"
    assert outcome(replace(UNSURE, frames=64), first=True)[0] == "refused", "more judges would not come"
    assert outcome(replace(UNSURE, after=0.59), first=True)[0] == "refused", "it is not even likely to be better"
    worse = replace(PERSON, after=0.45)
    assert outcome(replace(UNSURE, checks=(worse,)), first=True)[0] == "refused", "it is clearly worse somewhere"


def test_a_student_that_is_worse_somewhere_is_refused_although_it_is_better_in_all() -> None:
    night = Check("hours", "00-06 h", 0.5, 0.39, 16, 0.1)
    buses = Check("alarms", "1", 0.02, 0.3, 64, 0.1, -0.35)
    state, told = outcome(replace(BETTER, checks=(buses, night, PERSON)))
    assert state == "refused"
    assert "30% of frames have a false bus, 2% before" in told
    assert "00-06 h -0.110 (0.500 → 0.390, 16 frames), limit -0.100" in told
    assert "person" not in told


def test_blocks_that_are_too_few_are_named() -> None:
    assert "frames of 3 of 5 blocks" in outcome(replace(BETTER, low=-math.inf, blocks=3))[1]


def test_a_bound_is_held_against_the_margin_and_the_figure_against_half_of_it() -> None:
    assert replace(PERSON, after=0.56, low=-0.09).passed
    assert not replace(PERSON, after=0.54, low=-0.09).passed
    assert not replace(PERSON, after=0.6, low=-0.11).passed
    assert replace(PERSON, after=0.51, low=None).passed
    assert "may be as low as +0.010" in describe(PERSON, CLASSES)
