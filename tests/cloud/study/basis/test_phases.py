from __future__ import annotations

from collections import Counter
from itertools import pairwise

from culling.cloud.archive.judges import hour_of
from culling.cloud.study.basis.phases import Phases

COURSE = Phases(rounds=2)


def test_the_frames_of_a_round_have_hours_that_no_other_light_has() -> None:
    hours = {number: {hour_of(at) for at in COURSE.times(number, 80)} for number in COURSE}
    night = hours[3] | hours[4]
    assert not night & (hours[1] | hours[2] | hours[5] | hours[6])
    assert all(max(COURSE.times(one, 80)) < min(COURSE.times(other, 80)) for one, other in pairwise(range(1, 7)))
    assert [COURSE.place(number) for number in COURSE] == [
        ("day", 0, 4),
        ("day", 1, 4),
        ("night", 0, 2),
        ("night", 1, 2),
        ("day", 2, 4),
        ("day", 3, 4),
    ]
    assert Counter(COURSE.place(number)[0] for number in COURSE) == {"day": 4, "night": 2}
