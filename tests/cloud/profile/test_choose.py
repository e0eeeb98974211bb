"""Which profile is chosen of audits whose answers are known: in each, a student that finds one car."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from culling.cloud.evaluation.matching import compare
from culling.cloud.evaluation.tally import Tally, tally
from culling.cloud.profile.choose import BEST, choose
from culling.cloud.profile.options import DIFFERENCES, FULL, RATES
from culling.cloud.profile.score import EVERY, Audit, Trial, lacks
from culling.common.frame import Detections
from culling.common.wire.echo import AGES
from culling.common.wire.profile import Profile
from support.cloud import detections
from support.echoes import MOVING, STILL, echo

EMPTY = tally(compare(Detections.empty(), Detections.empty(), 0.4, 0.1), 1)
CAR, GONE = detections((0, 0, 20, 20, 0.9, 0)), detections((60, 60, 80, 80, 0.9, 0))


def right(found: Detections) -> Tally:
    return tally(compare(found, CAR, 0.4, 0.1), 1)


def audit(place: int, age: float, changes: tuple[int, ...] = MOVING, hour: int = 0, sees: bool = True) -> Audit:
    """Return an audit whose answers of up to `age` seconds are right, and older ones not any more; none is of a
    student that does not see the car.
    """
    found = [CAR if sees and each <= age else GONE for each in AGES]
    return Audit(place // 4, hour, 10.0, echo(found, changes), [right(CAR if sees else GONE), *map(right, found)])


def test_the_slowest_rate_is_chosen_at_which_nothing_is_lost() -> None:
    choice = choose([audit(place, 0.25) for place in range(60)], 0.01, 24)
    assert choice is not None
    assert choice.whole.profile == Profile(4.0, 0, echo=True)
    assert (choice.whole.change, choice.whole.low) == (0.0, 0.0)
    assert choice.whole.share == pytest.approx(0.16)
    assert choice.hours == (choice.whole,) * 24
    assert choice.why == "by 60 audits"
    assert choice.whole.told() == "4 frames/s, 16% of its frames: AP50 +0.000, at least +0.000"


def test_where_only_what_stands_still_is_right_a_difference_spares_it() -> None:
    half = [audit(place, 2.0 if place % 2 else 0.01, STILL if place % 2 else MOVING) for place in range(80)]
    choice = choose(half, 0.01, 24)
    assert choice is not None
    assert choice.whole == EVERY, "at 16 frames/s too the answer of the frame before stands, and is wrong"
    half = [audit(place, 2.0 if place % 2 else 0.05, STILL if place % 2 else MOVING) for place in range(80)]
    choice = choose(half, 0.01, 24)
    assert choice is not None
    assert choice.whole.profile == Profile(RATES[0], DIFFERENCES[1], echo=True), "the least that spares what is still"
    assert choice.whole.share == pytest.approx((0.02 + 0.64) / 2)


def test_what_may_be_chance_is_not_chosen() -> None:
    """One audit of 50 loses its car at every rate: a loss of about .02, which may be none."""
    audits = [audit(place, 2.0 if place else 0.01) for place in range(50)]
    choice = choose(audits, 0.01, 24)
    assert choice is not None
    assert (choice.whole, choice.hours) == (EVERY, (EVERY,) * 24)
    assert choice.why == "none certainly loses less than 0.01, by 50 audits"
    roomy = choose(audits, 0.2, 24)
    assert roomy is not None
    assert roomy.whole.profile.rate == RATES[-1]


def test_of_few_audits_or_few_moments_nothing_is_chosen() -> None:
    assert choose([audit(place, 2.0) for place in range(23)], 0.01, 24) is None
    assert choose([audit(0, 2.0) for _ in range(60)], 0.01, 24) is None
    assert choose([], 0.01, 24) is None


def test_a_student_that_is_hardly_ever_right_is_spared_nothing_though_it_has_nothing_to_lose() -> None:
    never = choose([audit(place, 2.0, sees=False) for place in range(60)], 0.01, 24)
    assert never is not None
    assert (never.whole, never.hours) == (EVERY, (EVERY,) * 24)
    assert never.why == "what is lost means little: the student's own AP50 is 0.00, not certainly 0.5, by 60 audits"
    half = choose([audit(place, 2.0, sees=place % 20 < 11) for place in range(60)], 1.0, 24)
    assert half is not None
    assert half.whole == EVERY, "that it is right in half may be chance, whatever may be lost"
    most = choose([audit(place, 2.0, sees=place % 20 < 18) for place in range(240)], 0.01, 24)
    assert most is not None
    assert most.whole.profile.rate == RATES[-1]


def test_in_a_part_of_the_day_where_it_is_hardly_ever_right_nothing_is_spared() -> None:
    audits = [audit(place, 2.0, hour=12) for place in range(240)]
    night = [audit(place, 2.0, hour=place % 6, sees=place % 10 == 0) for place in range(240, 360)]
    choice = choose(audits + night, 0.05, 24)
    assert choice is not None
    assert choice.hours[12].profile.rate == RATES[-1]
    assert choice.hours[:4] == (EVERY,) * 4
    void = Audit(60, 3, 10.0, echo([Detections.empty()]), [EMPTY] * (1 + len(AGES)))
    quiet = choose(audits + [replace(void, block=place // 4, hour=place % 6) for place in range(240, 360)], 0.05, 24)
    assert quiet is not None
    assert quiet.hours[3].profile.rate == RATES[-1], "where nothing is there, nothing is lost"


def test_what_audits_lack_is_said_in_numbers() -> None:
    assert lacks([1] * 51, 5) == "51 labelled audits of 1 block of time; 5 of 5 are needed"
    assert lacks([1, 2, 3, 4] * 6, 24) == "24 labelled audits of 4 blocks of time; 24 of 5 are needed"
    assert lacks([*range(23)], 24) == "23 labelled audits of 23 blocks of time; 24 of 5 are needed"
    assert lacks([*range(24)], 24) is None


def test_each_part_of_the_day_has_the_cheapest_of_the_best_that_loses_little_there() -> None:
    """By night an answer holds for two seconds; by day one of twenty loses its car after half a second."""
    audits = [audit(place, 0.5 if place % 40 in (3, 17) else 2.0, hour=12) for place in range(120)]
    audits += [audit(place, 2.0, hour=place % 6) for place in range(120, 360)]
    choice = choose(audits, 0.05, 24)
    assert choice is not None
    assert choice.whole.profile.rate == RATES[-1]
    assert {one.profile.rate for one in choice.hours[:6]} == {RATES[-1]}
    assert choice.hours[12].profile.rate > RATES[-1]
    assert len({one.profile for one in choice.hours} - {FULL}) <= BEST


def test_figures_are_the_same_for_the_same_audits_in_any_order_of_blocks() -> None:
    audits = [audit(place, random.Random(place).choice([0.1, 0.5, 2.0])) for place in range(60)]
    one, other = (Trial(each).score(Profile(2.0)) for each in (audits, list(audits)))
    assert one == other
    assert one.low <= one.change <= 0.0


def test_where_there_is_nothing_to_find_nothing_can_be_said() -> None:
    audits = [Audit(place // 4, 0, 1.0, echo([Detections.empty()]), [EMPTY] * (1 + len(AGES))) for place in range(60)]
    choice = choose(audits, 0.01, 24)
    assert choice is not None
    assert (choice.whole, choice.why) == (EVERY, "no object was there to be lost, by 60 audits")
