from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.profile.options import DIFFERENCES, FULL, OPTIONS, RATES, shares, stands
from culling.common.frame import Detections
from culling.common.wire.echo import AGES
from culling.common.wire.profile import Profile
from support.echoes import MOVING, STILL, echo

NOTHING = [Detections.empty()]


@pytest.mark.parametrize(
    ("profile", "changes", "frames"),
    [
        (FULL, MOVING, 1),
        (FULL, STILL, 1),
        (Profile(rate=4), MOVING, 25 / 4),
        (Profile(rate=4), STILL, 25 / 4),
        (Profile(rate=4, difference=8), MOVING, 25 / 4),
        (Profile(rate=4, difference=8), STILL, 50),
        (Profile(rate=4, difference=8), (7, 7, 7, 7, 7, 8, 8), 14),  # the answer of half a second ago, 13 frames, holds
        (Profile(rate=4, difference=8), (0, 9, 0, 0, 0, 0, 0), 25 / 4),
        (Profile(rate=0.5), MOVING, 50),
    ],
)
def test_an_answer_is_good_until_it_is_due_and_then_while_nothing_changed(
    profile: Profile, changes: tuple[int, ...], frames: float
) -> None:
    assert stands(profile, echo(NOTHING, changes)) == pytest.approx(frames)


def test_at_every_frame_all_is_looked_at_itself() -> None:
    assert shares(FULL, echo(NOTHING)).tolist() == [1.0, *[0.0] * len(AGES)]


def test_between_two_looks_every_frame_is_as_likely() -> None:
    by_twos = shares(Profile(rate=5), echo(NOTHING, rate=10.0))
    assert by_twos.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    by_turns = shares(Profile(rate=4), echo(NOTHING, rate=10.0))  # two and three frames
    assert by_turns.tolist() == pytest.approx([0.4, 0.4, 0, 0.2, 0, 0, 0, 0])


def test_a_frame_between_two_ages_counts_as_both() -> None:
    found = shares(Profile(rate=5), echo(NOTHING))  # answers of 0, 1, 2, 4 frames ago are told, and 3 stands too
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.3, 0.3, 0, 0, 0, 0])
    assert sum(shares(Profile(rate=1), echo(NOTHING))[:5]) < 1 < sum(shares(Profile(rate=1), echo(NOTHING))) + 1e-6


def test_a_camera_slower_than_a_rate_has_all_of_it_looked_at() -> None:
    assert shares(Profile(rate=16), echo(NOTHING, rate=5.0))[0] == 1.0


@given(
    st.sampled_from(OPTIONS), st.lists(st.integers(0, 255), min_size=len(AGES), max_size=len(AGES)), st.floats(0.3, 60)
)
def test_shares_add_up_and_a_stricter_profile_looks_less(
    profile: Profile, changes: tuple[int, ...], rate: float
) -> None:
    told = echo(NOTHING, changes, rate=rate)
    found = shares(profile, told)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= -1e-12).all()
    assert stands(Profile(profile.rate / 2, profile.difference), told) >= stands(profile, told)
    assert stands(Profile(profile.rate, profile.difference * 2), told) >= stands(profile, told)


def test_options_differ_in_what_they_do() -> None:
    seen = {
        (profile.rate, profile.difference): tuple(
            np.round([stands(profile, echo(NOTHING, (level,) * len(AGES))) for level in range(40)], 6)
        )
        for profile in OPTIONS
    }
    assert len(OPTIONS) == (len(RATES) - 1) * len(DIFFERENCES) + 1
    assert len(set(seen.values())) == len(seen)
    assert all(profile.echo for profile in (FULL, *OPTIONS))
