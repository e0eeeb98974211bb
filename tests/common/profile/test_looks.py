"""Which frames are looked at by a profile, and what an audit tells of those before it: frames come 25 a second."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.frame import Detections
from culling.common.profile.looks import Looks
from culling.common.wire.echo import AGES
from culling.common.wire.profile import LONGEST_S, NONE, Profile

FPS = 25


class Stream:
    """Frames of one camera, each of one grey; what is found in frame n is n boxes."""

    def __init__(self, profile: Profile) -> None:
        self.looks = Looks()
        self.looks.follow(profile)
        self.frame = -1

    def next(self, grey: int = 90, wanted: bool = False) -> str:
        """Have a frame come in; return "look", or why it is skipped."""
        self.frame += 1
        shown = np.full((32, 32), grey, np.uint8)
        why = self.looks.skips(shown, self.frame / FPS, wanted)
        if why is None:
            self.looks.found(boxes(self.frame))
        return why or "look"

    def run(self, greys: list[int], wanted: bool = False) -> str:
        """Have frames come in; return a letter for each: l, t or u."""
        return "".join(self.next(grey, wanted)[0] for grey in greys)


def boxes(count: int) -> Detections:
    return Detections(np.zeros((count, 4), np.float32), np.ones(count, np.float32), np.zeros(count, np.int64))


def test_without_a_profile_every_frame_is_looked_at() -> None:
    stream = Stream(NONE)
    assert stream.run([90] * 100) == "l" * 100
    assert stream.looks.echo() is None, "nobody asked for one"


def test_a_rate_spares_the_frames_between() -> None:
    stream = Stream(Profile(rate=5))
    assert stream.run([90] * 10) == "lttttltttt"


def test_a_rate_that_does_not_divide_is_kept_on_average() -> None:
    assert Stream(Profile(rate=16)).run(list(range(250))).count("l") == 160


def test_what_does_not_differ_is_spared_until_an_answer_has_stood_too_long() -> None:
    told = Stream(Profile(difference=8)).run([90] * 120)
    assert [place for place, letter in enumerate(told) if letter == "l"] == [0, 50, 100]
    assert LONGEST_S == 50 / FPS


def test_a_difference_is_measured_from_the_frame_looked_at_last() -> None:
    stream = Stream(Profile(difference=8))
    assert stream.run([90, 93, 96, 97, 98, 99, 105, 106]) == "luuuluul"


def test_a_single_cell_that_differs_is_enough() -> None:
    stream = Stream(Profile(difference=8))
    stream.next()
    shown = np.full((32, 32), 90, np.uint8)
    shown[3, 4] = 98
    assert stream.looks.skips(shown, 0.04) is None


def test_what_has_changed_is_looked_at_when_the_rate_allows_though_it_changed_back() -> None:
    stream = Stream(Profile(rate=5, difference=8))
    assert stream.run([90, 90, 150, 90, 90, 90, 90]) == "lttttlt"
    assert stream.run([90] * 10).count("l") == 0


def test_after_a_failure_or_a_new_student_the_next_frame_is_looked_at() -> None:
    stream = Stream(Profile(rate=5))
    stream.run([90, 90])
    stream.looks.forget()
    assert stream.run([90, 90]) == "lt"


def test_another_source_whose_times_begin_anew_is_looked_at_as_often() -> None:
    stream = Stream(Profile(rate=5))
    stream.run([90] * 5000)
    stream.looks.forget()
    stream.frame = -1
    assert stream.run([90] * 10) == "lttttltttt"
    assert stream.looks.ahead == 11


def test_another_profile_begins_with_a_look_and_the_same_goes_on() -> None:
    stream = Stream(Profile(rate=5))
    stream.run([90, 90])
    stream.looks.follow(Profile(rate=5))
    assert stream.run([90]) == "t"
    stream.looks.follow(Profile(rate=1))
    assert stream.run([90, 90]) == "lt"


# Echoes


def test_an_echo_tells_the_newest_answers_of_each_age_and_the_greatest_change_since() -> None:
    stream = Stream(Profile(echo=True))
    stream.run([90] * 50 + [95, 90, 90, 90, 90, 90])  # frame 50 is brighter, 5 frames before the last
    echo = stream.looks.echo()
    assert echo is not None
    assert echo.rate == pytest.approx(FPS)
    ages = [55 - len(found) for found in echo.found]
    assert ages == [1, 2, 4, 7, 13, 25, 50]
    assert echo.changes == (0, 0, 0, 5, 5, 5, 5)
    assert echo.stood is None


def test_before_there_are_answers_of_each_age_there_is_no_echo() -> None:
    stream = Stream(Profile(echo=True))
    stream.run([90] * 50)
    assert stream.looks.echo() is None
    stream.run([90])
    assert stream.looks.echo() is not None


def test_a_frame_that_was_skipped_breaks_the_row() -> None:
    stream = Stream(Profile(rate=12.5, echo=True))
    stream.run([90] * 120)
    assert stream.looks.echo() is None


def test_looks_that_were_wanted_leave_what_stands_as_it_is_and_tell_it() -> None:
    greys = [90] * 20 + list(range(90, 150))
    alone, beside = Stream(Profile(rate=2, echo=True)), Stream(Profile(rate=2, echo=True))
    due = [place for place, letter in enumerate(alone.run(greys)) if letter == "l"]
    assert beside.run(greys, wanted=True) == "l" * len(greys)
    echo = beside.looks.echo()
    assert echo is not None
    assert echo.stood is not None
    assert len(echo.stood) == due[-1], "the answer that stands without them"
    assert [79 - len(found) for found in echo.found] == [1, 2, 4, 7, 13, 25, 50]


def test_a_wanted_look_that_was_due_anyway_stands() -> None:
    stream = Stream(Profile(rate=12.5, echo=True))
    stream.run([90] * 61, wanted=True)
    assert (echo := stream.looks.echo()) is not None
    assert echo.stood is None
    stream.run([90], wanted=True)
    assert (echo := stream.looks.echo()) is not None
    assert echo.stood is not None
    assert len(echo.stood) == 60


def test_an_audit_is_known_of_in_time_for_all_its_answers() -> None:
    stream = Stream(Profile(rate=1, echo=True))
    stream.run([90] * 200)
    ahead = stream.looks.ahead
    assert "t" not in stream.run([90] * ahead, wanted=True)
    assert stream.looks.echo() is not None
    assert ahead / FPS < AGES[-1] + 0.5, "no more is looked at for it than need be"


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=150),
    st.sampled_from([0.0, 0.5, 3.0, 16.0]),
    st.sampled_from([0, 4, 30]),
)
def test_no_answer_stands_too_long_and_no_rate_is_exceeded(greys: list[int], rate: float, difference: int) -> None:
    stream = Stream(Profile(rate, difference))
    looked = [place / FPS for place, letter in enumerate(stream.run(greys)) if letter == "l"]
    assert looked[0] == 0
    for before, after in zip(looked, [*looked[1:], (len(greys) - 1) / FPS], strict=True):
        assert after - before <= LONGEST_S + 1e-9
    if rate:
        assert len(looked) <= len(greys) / FPS * max(rate, 1 / LONGEST_S) + 1
