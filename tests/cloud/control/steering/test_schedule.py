from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.control.steering.schedule import CameraStats, camera_stats, due, expect, needed
from culling.cloud.settings import ScheduleSettings
from culling.cloud.store.desired import DesiredState
from culling.cloud.store.frames import Counts
from culling.cloud.store.roster import CameraRow

NOW = 1_800_000_000.0
SETTINGS = ScheduleSettings(min_new=100, max_age_s=3600, drift=0.02, least=10)
QUIET = CameraStats("gate", waiting=50, oldest_waiting=NOW - 60)


def test_nothing_is_due_while_few_frames_wait_for_a_short_time() -> None:
    assert due(QUIET, NOW, SETTINGS) is None


@pytest.mark.parametrize(("waiting", "expected"), [(99, None), (100, "new-frames"), (500, "new-frames")])
def test_enough_new_frames_start_a_round(waiting: int, expected: str | None) -> None:
    assert due(replace(QUIET, waiting=waiting), NOW, SETTINGS) == expected


@pytest.mark.parametrize(("age", "expected"), [(3599, None), (3600, "age")])
def test_frames_that_wait_long_start_a_round(age: float, expected: str | None) -> None:
    assert due(replace(QUIET, oldest_waiting=NOW - age), NOW, SETTINGS) == expected


@pytest.mark.parametrize(("fell", "expected"), [(0.0, None), (0.02, None), (0.021, "drift")])
def test_a_student_that_fell_by_more_than_chance_and_the_setting_starts_a_round(
    fell: float, expected: str | None
) -> None:
    assert due(replace(QUIET, fell=fell), NOW, SETTINGS) == expected


def test_age_and_drift_want_a_few_frames_at_least() -> None:
    few = replace(QUIET, waiting=9, oldest_waiting=0.0, fell=0.2)
    assert due(few, NOW, SETTINGS) is None
    assert due(replace(few, waiting=10), NOW, SETTINGS) == "age"


def test_what_somebody_asked_for_is_due_even_on_hold_and_without_frames() -> None:
    held = SETTINGS.model_copy(update={"hold": True})
    assert due(CameraStats("gate", 0, asked=True), NOW, held) == "manual"
    assert due(replace(QUIET, waiting=10_000), NOW, held) is None


def test_no_round_starts_by_itself_that_could_not_be_judged() -> None:
    unjudged = replace(QUIET, waiting=500, judged=False)
    assert due(unjudged, NOW, SETTINGS) is None
    assert due(replace(unjudged, asked=True), NOW, SETTINGS) == "manual"


def test_a_round_that_was_requested_waits_for_the_labels_that_it_would_be_refused_without() -> None:
    row = CameraRow("gate", "edge-1", 0.0, False, None, None)
    for counts, lacking in (
        (Counts(held_out=3, asking_judges=5, asking_others=9), 5),
        (Counts(held_out=16, asking_judges=5, asking_others=9), 9),
        (Counts(held_out=16, waiting=1, asking_judges=5, asking_others=9), 0),
        (Counts(held_out=3, asking_others=9), 0),  # no judge will come by waiting for the teacher
    ):
        stats = camera_stats(row, counts, DesiredState(), 16, new=True, asked=True)
        assert stats.lacking == lacking
        assert due(stats, NOW, SETTINGS) == (None if lacking else "manual")
        wait = expect(stats, NOW, SETTINGS)
        told = f"a round was requested, and waits for the teacher to label {lacking} frames"
        assert (wait.told() if wait else "") == (told if lacking else "")
    assert camera_stats(row, Counts(held_out=16, asking_others=9), DesiredState(), 16, False, True).lacking == 0


def test_a_round_that_was_requested_waits_for_no_labels_where_nothing_is_labelled() -> None:
    row = CameraRow("gate", "edge-1", 0.0, False, None, None)
    counts = Counts(held_out=3, asking_judges=5, asking_others=9)
    stats = camera_stats(row, counts, DesiredState(), 16, new=True, asked=True, labels=False)
    assert due(stats, NOW, SETTINGS) == "manual", "it says itself why it is refused"


def test_a_new_camera_gets_its_first_round_with_fewer_frames_once_it_can_be_judged() -> None:
    settings = ScheduleSettings()
    stats = replace(QUIET, waiting=32, new=True)
    assert due(stats, NOW, settings) == "new-frames"
    assert due(replace(stats, waiting=31), NOW, settings) is None
    assert due(replace(stats, judged=False), NOW, settings) is None
    assert due(replace(stats, new=False), NOW, settings) is None
    assert needed(stats, ScheduleSettings(min_new=8)) == 8, "never later than any other"


def test_what_a_round_waits_for_and_about_when_is_told() -> None:
    midnight = 1_799_971_200.0
    stats = CameraStats("gate", waiting=21, oldest_waiting=midnight - 1200)
    wait = expect(stats, midnight, ScheduleSettings(min_new=128))
    assert wait is not None
    assert wait.told(UTC) == "waits for 21 of 128 labelled frames, about 01:47"
    for changed, told in (
        (replace(stats, waiting=0, oldest_waiting=None), "waits for 0 of 128 labelled frames"),
        (replace(stats, held=True), "rounds are on hold"),
        (replace(stats, waiting=500, judged=False), "waits for labelled held-out frames to judge by"),
    ):
        wait = expect(changed, midnight, ScheduleSettings(min_new=128))
        assert wait is not None
        assert wait.told(UTC) == told


@given(
    waiting=st.integers(0, 400),
    age=st.floats(0, 1e6),
    new=st.booleans(),
    held=st.booleans(),
    judged=st.booleans(),
    min_new=st.integers(1, 300),
    first=st.integers(1, 300),
)
def test_a_round_is_either_due_or_waited_for_with_a_time_that_has_not_passed(
    waiting: int, age: float, new: bool, held: bool, judged: bool, min_new: int, first: int
) -> None:
    settings = ScheduleSettings(min_new=min_new, first=first)
    oldest = NOW - age if waiting else None
    stats = CameraStats("gate", waiting, oldest, held=held, judged=judged, new=new)
    wait = expect(stats, NOW, settings)
    assert (wait is None) == (due(stats, NOW, settings) is not None)
    if wait is not None and not wait.why:
        assert wait.waiting < wait.needed <= min_new
        assert wait.at is None or wait.at >= NOW
        more = replace(stats, waiting=wait.needed, oldest_waiting=NOW)
        assert due(more, NOW, settings) is not None or not judged


def test_drift_waits_for_as_many_frames_as_a_first_round() -> None:
    settings = SETTINGS.model_copy(update={"first": 40})
    assert due(replace(QUIET, waiting=39, fell=0.2), NOW, settings) is None
    assert due(replace(QUIET, waiting=40, fell=0.2), NOW, settings) == "drift"
