"""The rules of time for one camera."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.edge.camera.pacing import Backoff, Pace, Polling, Timeline


class TestBackoff:
    def test_pauses_grow_from_one_second_to_a_minute(self) -> None:
        backoff = Backoff(random.Random(1))
        pauses = [backoff.pause() for _ in range(10)]
        assert all(low <= pause <= high for pause, (low, high) in zip(pauses, [(1, 2), (2, 4), (4, 8)], strict=False))
        assert all(1 <= pause <= 60 for pause in pauses)
        assert all(30 <= pause <= 60 for pause in pauses[6:])

    def test_cameras_that_were_lost_together_do_not_return_together(self) -> None:
        assert len({round(Backoff(random.Random(seed)).pause(), 3) for seed in range(50)}) > 40

    def test_success_starts_afresh(self) -> None:
        backoff = Backoff(random.Random(1))
        for _ in range(8):
            backoff.pause()
        backoff.reset()
        assert backoff.pause() <= 2


class TestTimeline:
    def test_it_starts_at_zero_wherever_the_source_does(self) -> None:
        timeline = Timeline()
        assert [round(timeline.advance(pts, 0.1), 6) for pts in (7.0, 7.1, 7.35)] == [0, 0.1, 0.35]

    @pytest.mark.parametrize("there", [3600.0, -3600.0, 7.1, None])
    def test_a_jump_a_repetition_or_no_time_counts_as_one_frame(self, there: float | None) -> None:
        timeline = Timeline()
        timeline.advance(7.0, 0.1)
        timeline.advance(7.1, 0.1)
        assert timeline.advance(there, 0.1) == pytest.approx(0.2)

    def test_it_goes_on_after_frames_without_a_time(self) -> None:
        timeline = Timeline()
        assert [round(timeline.advance(pts, 0.04), 6) for pts in (None, None, 5.0, 5.5)] == [0, 0.04, 0.08, 0.58]

    @given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=2))
    def test_it_never_runs_backwards(self, times: list[float | None]) -> None:
        timeline = Timeline()
        played = [timeline.advance(pts, 0.04) for pts in times]
        assert all(earlier <= later <= earlier + 10 for earlier, later in pairwise(played))


class TestPace:
    def test_a_frame_is_due_when_it_has_been_played_up_to(self) -> None:
        pace = Pace()
        assert pace.delay(0.0, now=50.0) == 0
        assert pace.delay(0.1, now=50.02) == pytest.approx(0.08)

    def test_a_short_delay_is_made_up_for(self) -> None:
        pace = Pace()
        pace.delay(0.0, now=50.0)
        assert pace.delay(0.1, now=50.5) == 0
        assert pace.delay(0.6, now=50.5) == pytest.approx(0.1)

    def test_after_a_long_one_it_goes_on_from_there(self) -> None:
        pace = Pace()
        pace.delay(0.0, now=50.0)
        assert pace.delay(0.1, now=5000.0) == 0
        assert pace.delay(0.2, now=5000.0) == pytest.approx(0.1)


class TestPolling:
    def test_fetches_begin_so_many_times_a_second(self) -> None:
        polling = Polling(4)
        assert polling.pause(10.0) == 0.25
        assert polling.pause(10.35) == pytest.approx(0.15)
        assert polling.pause(10.6) == pytest.approx(0.15)

    def test_once_a_second_is_enough_where_nothing_is_said(self) -> None:
        assert Polling(0).pause(10.0) == 1.0

    def test_a_slow_one_is_followed_at_once_and_not_made_up_for(self) -> None:
        polling = Polling(1)
        polling.pause(10.0)
        assert polling.pause(15.0) == 0.0
        assert polling.pause(15.1) == pytest.approx(0.9)
