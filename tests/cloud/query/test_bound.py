from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.query.bound import at_most, certified, needed

MILLIONS = 50_000_000


@given(st.integers(1, 40), st.data())
def test_the_chance_is_that_of_drawing_without_putting_back(total: int, data: st.DataObject) -> None:
    sample, wrong = data.draw(st.integers(1, total)), data.draw(st.integers(0, total))
    seen = data.draw(st.integers(0, sample))
    ways = sum(comb(wrong, k) * comb(total - wrong, sample - k) for k in range(seen + 1))
    assert at_most(seen, sample, wrong, total) == pytest.approx(ways / comb(total, sample), abs=1e-9)


@pytest.mark.parametrize(
    ("seen", "sample", "upper"), [(0, 299, 0.00997), (1, 473, 0.00999), (3, 100, 0.0757), (10, 1000, 0.01690)]
)
def test_for_a_long_video_it_is_the_bound_of_clopper_and_pearson(seen: int, sample: int, upper: float) -> None:
    """Upper ends, one-sided at 95 %, of the beta distribution's quantiles beta(0.95, seen + 1, sample - seen)."""
    assert certified(seen, sample, int(1.003 * upper * MILLIONS), MILLIONS)
    assert not certified(seen, sample, int(0.997 * upper * MILLIONS), MILLIONS)


def test_a_short_video_needs_fewer_frames_and_the_whole_of_it_is_certain() -> None:
    assert needed(MILLIONS // 100, MILLIONS) == 299
    assert needed(MILLIONS // 100, MILLIONS, seen=1) == 473
    assert needed(17, 1700) < 270
    assert certified(0, 1000, 0, 1000)
    assert certified(5, 1000, 5, 1000)
    assert not certified(6, 1000, 5, 1000)


@given(st.integers(2, 3000), st.integers(0, 4), st.data())
def test_what_is_needed_suffices_and_one_less_does_not(total: int, seen: int, data: st.DataObject) -> None:
    allowed = data.draw(st.integers(0, total - 1))
    least = needed(allowed, total, seen)
    assert 1 <= least <= total
    if least < total:
        assert certified(seen, least, allowed, total)
    if least > seen + 1:
        assert not certified(seen, least - 1, allowed, total)
